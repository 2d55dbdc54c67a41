"""What a document draws is what runs: ports, values, ways, merges, waits, loops, sub-flows, parts and tweaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream import Millstream
from millstream.authoring.documents.flow import DocumentFlow, Output
from millstream.errors import DocumentError
from millstream.settings import Settings
from tests.documents import document, edge, node
from tests.integration.document_tasks import CATALOGUE, CHAT, FLOW_ID

OTHER_ID = "0190d5ae-7c3f-7b1e-9d3f-000000000002"


@pytest.fixture(scope="module")
async def app() -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(durability="off")) as app:
        yield app


def flow_of(data: dict[str, Any], **others: dict[str, Any]) -> DocumentFlow:
    return DocumentFlow(FLOW_ID, data, CATALOGUE, find=others.get if not others else {OTHER_ID: others["other"]}.get)


async def outputs(app: Millstream, flow: DocumentFlow, **inputs: Any) -> dict[str, Any]:
    job = await app.submit(flow, **inputs)
    result = await asyncio.wait_for(job.result(), 120)
    assert list(result) == ["outputs"]
    return dict(result["outputs"])


async def test_a_job_gives_the_values_of_the_output_nodes(app: Millstream) -> None:
    flow = flow_of(CHAT)
    assert await outputs(app, flow, input_value="hi") == {"out": "HI"}
    assert flow.outputs == (Output("out", "Chat output", "chat_output", "chat"),)
    assert flow.name == f"flow:{FLOW_ID}"


async def test_without_output_nodes_a_job_gives_what_no_other_node_follows(app: Millstream) -> None:
    data = document([node("a", "docs.add", a=1), node("b", "docs.add", b=5), node("c", "docs.add", a=7)])
    data["edges"] = [edge("a.result", "b.a")]
    assert await outputs(app, flow_of(data)) == {"b": 7, "c": 8}


async def test_an_edge_counts_more_than_a_value_and_that_more_than_a_default(app: Millstream) -> None:
    data = document([node("a", "docs.add", a=1), node("b", "docs.add", a=100, b=10)], ("a.result", "b.a"))
    assert await outputs(app, flow_of(data)) == {"b": 12}


async def test_an_input_of_many_edges_takes_a_list_in_their_order(app: Millstream) -> None:
    many = document(
        [
            node("a", "docs.upper", text="a"),
            node("b", "docs.upper", text="b"),
            node("m", "docs.join_many", between="-"),
        ],
        ("b.result", "m.parts"),
        ("a.result", "m.parts"),
    )
    assert await outputs(app, flow_of(many)) == {"m": "B-A"}


async def test_an_open_component_takes_inputs_of_any_name(app: Millstream) -> None:
    data = document(
        [node("a", "docs.upper", text="ada"), node("f", "docs.fill", template="%who% %n%", n=3)], ("a.result", "f.who")
    )
    assert await outputs(app, flow_of(data)) == {"f": "ADA 3"}
    assert await outputs(app, flow_of(data), tweaks={"f": {"n": 4, "more": 1}}) == {"f": "ADA 4"}
    named = document([node("f", "docs.fill", template="%values%", values=5)])  # as the parameter that takes them all
    assert await outputs(app, flow_of(named)) == {"f": "5"}


CHOOSING = document(
    [
        node("in", "chat_input"),
        node("long", "docs.is_long", limit=3),
        node("up", "docs.upper"),
        node("both", "Merge"),
        node("out", "chat_output"),
        node("only", "chat_output"),
    ],
    ("in.text", "long.text"),
    ("long.yes", "up.text"),
    ("up.result", "both.values"),
    ("long.no", "both.values"),
    ("both.result", "out.value"),
    ("up.result", "only.value"),
)


async def test_ways_that_are_not_chosen_are_skipped_and_a_merge_goes_on_with_the_other(app: Millstream) -> None:
    flow = flow_of(CHOOSING)
    assert await outputs(app, flow, input_value="hello") == {"out": "HELLO", "only": "HELLO"}
    assert await outputs(app, flow, input_value="hi") == {"out": "hi", "only": None}


async def test_a_node_behind_two_ways_of_one_router_never_runs(app: Millstream) -> None:
    data = document(
        [node("long", "docs.is_long", text="hi"), node("m", "docs.join_many"), node("end", "docs.add", a=1)],
        ("long.yes", "m.parts"),
        ("long.no", "m.parts"),
    )
    assert await outputs(app, flow_of(data)) == {"m": None, "end": 2}


async def test_a_wait_passes_its_value_on(app: Millstream) -> None:
    data = document([node("a", "docs.add", a=1), node("w", "Wait", seconds=0.01)], ("a.result", "w.value"))
    assert await outputs(app, flow_of(data)) == {"w": 2}


async def test_a_human_answers_an_approval(app: Millstream) -> None:
    data = document(
        [node("ask", "HumanApproval", question="ok?"), node("say", "chat_output")], ("ask.answer", "say.value")
    )
    job = await app.submit(flow_of(data))
    async for event in job.events():
        if event.type == "waiting":
            assert event.data["question"] == "ok?"
            assert await app.approve(job.id, "ask", "fine")
    assert await job.result() == {"outputs": {"say": "fine"}}


LOOP = document(
    [
        node("step", "docs.add", a=2),
        node("again", "Loop", value=1),
        node("next", "docs.add", "again"),
        node("over", "docs.is_over", "again", limit=10),
        node("out", "chat_output"),
    ],
    ("step.result", "next.b"),
    ("again.current", "next.a"),
    ("next.result", "again.next"),
    ("next.result", "over.value"),
    ("over.result", "again.done"),
    ("again.result", "out.value"),
)


async def test_a_loop_repeats_its_nodes_until_one_of_them_says_that_it_is_done(app: Millstream) -> None:
    flow = flow_of(LOOP)
    assert await outputs(app, flow) == {"out": 13}
    assert await outputs(app, flow, tweaks={"over": {"limit": 20}, "again": {"value": 0}}) == {"out": 21}


async def test_a_loop_of_too_many_turns_fails(app: Millstream) -> None:
    data = {**LOOP, "nodes": [{**one} for one in LOOP["nodes"]]}
    data["nodes"][1] = node("again", "Loop", value=1, max_turns=2)
    job = await app.submit(flow_of(data))
    with pytest.raises(Exception, match="max_turns"):
        await asyncio.wait_for(job.result(), 120)


async def test_loops_lie_in_loops(app: Millstream) -> None:
    data = document(
        [
            node("outer", "Loop", value=0),
            node("inner", "Loop", "outer"),
            node("add", "docs.add", "inner", b=1),
            node("five", "docs.is_over", "inner", limit=4),
            node("many", "docs.is_over", "outer", limit=0),
        ],
        ("outer.current", "inner.value"),
        ("inner.current", "add.a"),
        ("add.result", "inner.next"),
        ("add.result", "five.value"),
        ("five.result", "inner.done"),
        ("inner.result", "outer.next"),
        ("inner.result", "many.value"),
        ("many.result", "outer.done"),
    )
    assert await outputs(app, flow_of(data)) == {"outer": 5}


def subflow(value: Any = None) -> dict[str, Any]:
    values = {"flow": OTHER_ID} if value is None else {"flow": OTHER_ID, "input_value": value}
    return document(
        [node("in", "chat_input"), node("sub", "Subflow", **values), node("out", "chat_output")],
        *([("in.text", "sub.input_value")] if value is None else []),
        ("sub.result", "out.value"),
    )


async def test_a_sub_flow_runs_in_its_nodes_place(app: Millstream) -> None:
    flow = flow_of(subflow(), other=CHAT)
    job = await app.submit(flow, input_value="hi")
    assert (await job.result())["outputs"] == {"out": "HI"}
    assert {result.path for result in await app.node_results(job.id)} == {
        "in",
        "sub.in",
        "sub.shout",
        "sub.out",
        "sub",
        "out",
    }
    assert await outputs(app, flow_of(subflow("own"), other=CHAT), input_value="hi") == {"out": "OWN"}


async def test_tweaks_reach_into_sub_flows(app: Millstream) -> None:
    data = document([node("sub", "Subflow", flow=OTHER_ID)])
    flow = flow_of(data, other=document([node("a", "docs.add", a=1)]))
    assert await outputs(app, flow) == {"sub": {"a": 2}}
    assert await outputs(app, flow, tweaks={"sub.a": {"a": 5}}) == {"sub": {"a": 6}}


async def test_a_sub_flow_on_a_way_that_is_not_chosen_does_not_run(app: Millstream) -> None:
    data = document(
        [
            node("long", "docs.is_long", text="hi"),
            node("sub", "Subflow", flow=OTHER_ID),
            node("out", "chat_output"),
        ],
        ("long.yes", "sub.input_value"),
        ("sub.result", "out.value"),
    )
    inner = document(
        [node("in", "chat_input"), node("lone", "docs.fail"), node("out", "chat_output")], ("in.text", "out.value")
    )
    assert await outputs(app, flow_of(data, other=inner)) == {"out": None}


async def test_a_python_flow_is_a_component_whether_it_draws_or_conducts(app: Millstream) -> None:
    data = document(
        [node("a", "docs.add", a=2), node("t", "docs.twice"), node("u", "docs.up_to")],
        ("a.result", "t.number"),
        ("t.result", "u.number"),
    )
    assert await outputs(app, flow_of(data)) == {"u": 10}
    assert await outputs(app, flow_of(data).part(stop="t")) == {"t": 6}


async def test_a_nodes_policy_replaces_its_tasks(app: Millstream) -> None:
    failing = node("a", "docs.fail")
    failing["data"]["policy"] = {"retries": 2}
    job = await app.submit(flow_of(document([failing])))
    with pytest.raises(ValueError, match="no"):
        await asyncio.wait_for(job.result(), 120)
    events = [event async for event in job.events()]
    assert [event.type for event in events].count("node_retried") == 2


NESTED = document(
    [
        node("again", "Loop", value="a"),
        node("sub", "Subflow", "again", flow=OTHER_ID),
        node("next", "docs.join_many", "again", between=""),
        node("rest", "Wait", "again", seconds=0.001),
        node("long", "docs.is_long", "again", limit=4),
        node("yes", "docs.size", "again"),
        node("out", "chat_output"),
    ],
    ("again.current", "sub.input_value"),
    ("sub.result", "next.parts"),
    ("again.current", "next.parts"),
    ("next.result", "rest.value"),
    ("rest.value", "again.next"),
    ("rest.value", "long.text"),
    ("long.yes", "yes.text"),
    ("yes.result", "again.done"),
    ("again.result", "out.value"),
)


@pytest.mark.parametrize("data", [CHAT, CHOOSING, LOOP, subflow(), NESTED])
async def test_what_is_drawn_goes_through_a_ledger_as_it_is(data: dict[str, Any]) -> None:
    flow = flow_of(data, other=CHAT)
    async with Millstream(settings=Settings()) as app:
        job = await app.submit(flow, input_value="hello")
        first = await asyncio.wait_for(job.result(), 120)
        again = await app.retry(job.id, from_start=True)  # which has only the record to go by
        assert await asyncio.wait_for(again.result(), 120) == first
        if data is NESTED:
            assert first == {"outputs": {"out": "AAAAAAAa"}}


# ------------------------------------------------------------------------------------------------------------ inputs
async def test_inputs_go_to_the_nodes_of_their_type(app: Millstream) -> None:
    data = document(
        [
            node("chat", "chat_input", input_value="own"),
            node("text", "text_input", input_value="own"),
            node("hook", "hook"),
        ]
    )
    flow = flow_of(data)

    def said(text: str, session: str | None = None) -> dict[str, Any]:
        return {"text": text, "sender": "user", "session": session}

    assert await outputs(app, flow) == {"chat": said("own"), "text": said("own"), "hook": None}
    given = await outputs(app, flow, input_value="hi", session="s", payload=[1])
    assert given == {"chat": said("hi", "s"), "text": said("own", "s"), "hook": [1]}
    assert (await outputs(app, flow, input_value="hi", input_type="text"))["chat"] == said("own")
    both = await outputs(app, flow, input_value="hi", input_type="any")
    assert (both["chat"], both["text"]) == (said("hi"), said("hi"))


async def test_tweaks_name_nodes_by_id_or_label_and_outweigh_inputs(app: Millstream) -> None:
    data = document([node("in", "chat_input"), node("a", "docs.add", a=1)])
    data["nodes"][1]["data"]["label"] = "Sum"
    flow = flow_of(data)
    assert (await outputs(app, flow, tweaks={"Sum": {"a": 2, "b": 3}}))["a"] == 5
    assert (await outputs(app, flow, tweaks={"in": {"input_value": "x"}}, input_value="y"))["in"]["text"] == "x"
    assert (await outputs(app, flow))["a"] == 2


def test_tweaks_and_inputs_that_do_not_fit_are_problems_all_at_once() -> None:
    flow = flow_of(LOOP)
    tweaks: dict[str, Any] = {
        "nobody": {"a": 1},
        "step": {"a": "x", "z": 1, "b": 2},
        "next": {"b": 1},
        "again": {"max_turns": 5, "next": 1},
        "out": 3,
    }
    with pytest.raises(DocumentError) as caught:
        flow.draw(flow.inputs.bind((), {"tweaks": tweaks}))
    assert [where for where, _ in caught.value.problems] == [
        "tweaks.nobody",
        "tweaks.step.a",
        "tweaks.step.z",
        "tweaks.next.b",
        "tweaks.again.max_turns",
        "tweaks.again.next",
        "tweaks.out",
    ]
    for strange in ("x", [1], {1: {"a": 1}}, {"step": {"a": 10**5000}}, {"step": {"a": "\ud800"}}):
        with pytest.raises(DocumentError, match="tweaks"):
            flow.draw(flow.inputs.bind((), {"tweaks": strange}))
    with pytest.raises(DocumentError) as caught:
        flow_of(CHAT).draw(flow.inputs.bind((), {"input_value": 3}))
    assert caught.value.problems == (("input_value", "3 is not text"),)


# ------------------------------------------------------------------------------------------------------------- parts
async def test_a_part_is_what_a_node_needs_or_what_comes_after_it(app: Millstream) -> None:
    flow = flow_of(CHOOSING)
    assert list(flow.part(stop="long").document.nodes) == ["in", "long"]
    assert list(flow.part(start="only").document.nodes) == ["in", "long", "up", "only"]
    assert list(flow.part(start="up", stop="both").document.nodes) == ["in", "long", "up", "both"]
    assert list(flow.part(start="in").document.nodes) == list(flow.document.nodes)
    assert flow.part() is flow
    stopped = flow.part(stop="up")
    assert await outputs(app, stopped, input_value="hello") == {"up": "HELLO"}
    assert stopped.name == flow.name
    assert stopped.version != flow.version


async def test_a_node_in_a_loop_stands_for_the_loop(app: Millstream) -> None:
    part = flow_of(LOOP).part(stop="over")
    assert list(part.document.nodes) == ["step", "again", "next", "over"]
    assert await outputs(app, part) == {"again": 13}


@pytest.mark.parametrize(
    ("part", "where"),
    [({"start": "nobody"}, "start"), ({"stop": "\0"}, "stop"), ({"start": "out", "stop": "in"}, "stop")],
)
def test_a_part_that_there_is_not_is_a_problem(part: dict[str, str], where: str) -> None:
    with pytest.raises(DocumentError) as caught:
        flow_of(CHAT).part(**part)
    assert [place for place, _ in caught.value.problems] == [where]


def test_further_jobs_only_fill_in_values() -> None:
    flow = flow_of(CHAT)
    first, second = (flow.draw(flow.inputs.bind((), {"input_value": text})) for text in ("a", "b"))
    assert first.shape is second.shape
    assert (first.bindings[0], second.bindings[0]) == ("a", "b")


def test_the_version_is_that_of_what_runs() -> None:
    flow, moved = flow_of(CHAT), {**CHAT, "viewport": {"x": 1, "y": 2, "zoom": 0.5}}
    moved["nodes"] = [{**one, "position": {"x": 3, "y": 4}} for one in CHAT["nodes"]]
    assert flow_of(moved).version == flow.version
    moved["nodes"][0] = node("in", "chat_input", input_value="else")
    assert flow_of(moved).version != flow.version
