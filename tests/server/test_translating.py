"""What clients of `/api/v1/build` are told of a job, from its events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from millstream import Millstream, approval, branch, ctx, flow, loop, task
from millstream.graph.shape import Shape
from millstream.model.component import Component, Port
from millstream.model.event import Event
from millstream.server.builds.shapes import Build
from millstream.server.builds.translate import Told, Translator
from millstream.settings import Settings
from tests.server.shapes import shape_of

RECORDED = json.loads((Path(__file__).parent / "recorded_events.json").read_text(encoding="utf-8"))
COMPONENTS = {
    "chat_input": Component(name="chat_input", task="chat_input", input_type="chat", outputs=(Port(name="message"),)),
    "chat_output": Component(name="chat_output", task="chat_output", output_type="chat"),
}
_TRIES: list[str] = []


@task(name="chat_input")
async def chat_input(text: str) -> str:
    return text


@task
async def answer(text: str) -> str:
    for word in text.split():
        ctx.emit("token", {"chunk": word})
    ctx.log("answered", level="info")
    return text.upper()


@task(name="chat_output")
async def chat_output(text: str) -> dict[str, Any]:
    return {"text": text, "sender_name": "Bot"}


@task
async def double(x: int) -> int:
    ctx.progress(1, 1)
    return 2 * x


@task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
async def fails(text: str) -> str:
    raise ValueError(f"no {text}")


@task(retries=1)
async def second_time(text: str) -> str:
    ctx.emit("token", "half")
    if not _TRIES:
        _TRIES.append(text)
        raise ConnectionError("away")
    return text


@task
async def more(x: int) -> int:
    return x + 1


@task
async def is_enough(x: int) -> bool:
    return x > 2


@flow
def chat(input_value: str, session: str = "") -> Any:  # noqa: ARG001  what messages are told with
    return chat_output(answer(chat_input(input_value)))


@flow
def mapped(numbers: list[int]) -> Any:
    return total(double.map(numbers))


@flow
def routed(way: bool) -> Any:  # noqa: FBT001  an input
    return branch(way, lambda: answer("yes"), lambda: total(double.map([1])))


@flow
def failing() -> Any:
    return chat_output(fails("bread"))


@flow
def retried() -> Any:
    return chat_output(second_time("again"))


@flow
def turning() -> Any:
    return loop(more, 0, until=is_enough)


@flow
def asking() -> Any:
    return approval("really?")


@pytest.fixture
async def app() -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(durability="off")) as app:
        yield app


async def happened(app: Millstream, work: Any, **inputs: Any) -> tuple[Translator, list[Event]]:
    job = await app.submit(work, **inputs)
    events = [event async for event in job.events()]
    return await translator(app, job.id), events


async def translator(app: Millstream, job_id: str) -> Translator:
    graph, _ = await app.graph(job_id)
    return Translator(Build.of(await app.record(job_id)), Shape(graph), COMPONENTS)


def tell(translator: Translator, events: Sequence[Event]) -> list[Told]:
    return [told for event in events for told in translator.take(event)]


def names(told: Sequence[Told]) -> list[str]:
    return [name for name, _ in told]


def ends(told: Sequence[Told]) -> dict[str, dict[str, Any]]:
    return {data["build_data"]["id"]: data["build_data"] for name, data in told if name == "end_vertex"}


async def test_a_chat_tells_messages_tokens_and_vertices_in_order(app: Millstream) -> None:
    told = tell(*await happened(app, chat, input_value="good day", session="s1"))
    assert names(told) == [
        "vertices_sorted",
        "build_start",
        *("add_message", "end_vertex"),
        *("token", "token", "log", "end_vertex"),
        *("add_message", "end_vertex"),
        "end",
    ]
    assert told[0].data == {"ids": ["chat_input"], "to_run": ["chat_input", "answer", "chat_output"]}
    asked, answered = (data for name, data in told if name == "add_message")
    assert (asked["text"], asked["sender"], asked["session_id"]) == ("good day", "User", "s1")
    assert (answered["text"], answered["sender"], answered["sender_name"]) == ("GOOD DAY", "Machine", "Bot")
    assert {data["id"] for name, data in told if name == "token"} == {answered["id"]}
    vertices = ends(told)
    assert [vertices[name]["next_vertices_ids"] for name in vertices] == [["answer"], ["chat_output"], []]
    assert vertices["answer"]["data"]["results"] == {"result": "GOOD DAY"}
    assert told[-1].data["status"] == "succeeded"


async def test_what_happens_inside_a_vertex_is_part_of_it(app: Millstream) -> None:
    told = tell(*await happened(app, mapped, numbers=[1, 2, 3]))
    assert told[0].data == {"ids": ["double"], "to_run": ["double", "total"]}
    assert [data["component_id"] for name, data in told if name == "log"] == ["double"] * 3
    assert [(v["id"], v["data"]["results"]) for v in ends(told).values()] == [
        ("double", {"result": [2, 4, 6]}),
        ("total", {"result": 12}),
    ]


async def test_ways_that_a_router_did_not_choose_are_inactivated_and_never_end(app: Millstream) -> None:
    told = tell(*await happened(app, routed, way=True))
    (router,) = (built for built in ends(told).values() if built["inactivated_vertices"])
    assert router["inactivated_vertices"] == ["double", "total"]
    assert router["next_vertices_ids"] == ["answer"]
    assert not {"double", "total"} & set(ends(told))


async def test_a_failure_is_told_with_its_vertex_and_ends_the_build(app: Millstream) -> None:
    told = tell(*await happened(app, failing))
    assert names(told) == ["vertices_sorted", "build_start", "error", "end_vertex", "end"]
    assert (told[2].data["category"], told[2].data["text"]) == ("error", "ValueError: no bread")
    built = ends(told)["fails"]
    assert (built["valid"], built["params"], built["inactivated_vertices"]) == (False, "no bread", ["chat_output"])
    assert told[-1].data["status"] == "failed"


async def test_what_a_failed_attempt_streamed_is_taken_back(app: Millstream) -> None:
    _TRIES.clear()
    told = tell(*await happened(app, retried))
    assert names(told)[2:6] == ["token", "remove_message", "token", "end_vertex"]
    ids = {data["id"] for name, data in told if name in ("token", "remove_message", "add_message")}
    assert len(ids) == 1


async def test_what_a_lost_process_streamed_is_taken_back(app: Millstream) -> None:
    translator, events = await happened(app, chat, input_value="hi")
    started = next(event for event in events if event.type == "started")
    cut = next(index for index, event in enumerate(events) if event.type == "token") + 1
    again = Event(started.seq, 0, "started", started.at, None, {"attempt": 2, "process": "another"})
    told = tell(translator, [*events[:cut], again, *events[cut:]])
    assert names(told).count("build_start") == names(told).count("end") == 1
    assert [data["id"] for name, data in told if name == "remove_message"] == [
        data["id"] for name, data in told if name == "add_message" and data["sender"] == "Machine"
    ]


async def test_a_question_to_people_is_told(app: Millstream) -> None:
    job = await app.submit(asking)
    told: list[Told] = []
    teller = await translator(app, job.id)
    async for event in job.events():
        told += teller.take(event)
        if names(told)[-1:] == ["human_input_required"]:
            await job.approve("approval", "yes")
    assert [data["question"] for name, data in told if name == "human_input_required"] == ["really?"]
    assert ends(told)["approval"]["data"]["results"] == {"result": "yes"}


@pytest.mark.parametrize("work", [chat, mapped, routed, failing, turning])
async def test_durable_events_alone_give_the_same_durable_lines(app: Millstream, work: Any) -> None:
    known: dict[Any, dict[str, Any]] = {chat: {"input_value": "x"}, mapped: {"numbers": [1, 2]}, routed: {"way": False}}
    inputs = known.get(work, {})
    first, events = await happened(app, work, **inputs)
    durable = [event for event in events if event.is_durable]
    again = await translator(app, (await app.jobs(limit=1))[0].id)
    live = [told for event in events for told in _of_durable(event, first.take(event))]
    assert live == tell(again, durable)


def _of_durable(event: Event, told: list[Told]) -> list[Told]:
    return told if event.is_durable else []


async def test_a_cancelled_build_ends_with_one_end(app: Millstream) -> None:
    job = await app.submit(asking)
    await job.cancel()
    told = tell(await translator(app, job.id), [event async for event in job.events()])
    assert names(told).count("end") == 1
    assert told[-1].data["status"] == "cancelled"
    assert told[-1].data["reason"] == "cancel"


@pytest.mark.parametrize("work", [chat, failing, retried, asking])
async def test_events_have_the_recorded_shapes(app: Millstream, work: Any) -> None:
    _TRIES.clear()
    inputs: dict[str, Any] = {"input_value": "good day"} if work is chat else {}
    job = await app.submit(work, **inputs)
    teller, told = await translator(app, job.id), []
    async for event in job.events():
        told += teller.take(event)
        if names(told)[-1:] == ["human_input_required"]:
            await job.cancel()
    for name, data in told:
        assert shape_of(data) in RECORDED[name], name
