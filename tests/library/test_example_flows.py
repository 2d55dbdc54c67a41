"""The flows of `examples/flows` are valid, and do what they say."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millstream import JobCancelledError, Millstream, Settings, library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.flow import DocumentFlow
from millstream.clock import new_id
from tests.library.listeners import listening

FOLDER = Path(__file__).parents[2] / "examples" / "flows"


@pytest.fixture(scope="module")
async def app() -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(durability="off", egress_allow=("127.0.0.1",))) as app:
        yield app


def flow_of(name: str, app: Millstream) -> DocumentFlow:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert set(stored) == {"name", "description", "data"}  # as the server takes it
    return DocumentFlow(new_id(), stored["data"], Catalogue.of(app.registry, *library.load(app.registry)))


async def output(app: Millstream, name: str, **inputs: Any) -> Any:
    result = await (await app.submit(flow_of(name, app), **inputs)).result()
    (value,) = result["outputs"].values()
    return value


def test_there_are_no_other_ones() -> None:
    names = {"echo", "http_json", "loop", "prompt", "router", "slow"}
    assert {path.stem for path in FOLDER.glob("*.json")} == names


async def test_echo_says_what_was_said_in_the_same_chat(app: Millstream) -> None:
    said = await output(app, "echo", input_value="hello", session="s1")
    assert said == {"text": "hello", "sender": "Machine", "sender_name": "AI", "session_id": "s1", "files": []}


async def test_prompt_puts_the_question_into_the_template(app: Millstream) -> None:
    said = await output(app, "prompt", input_value=" why? ")
    assert said["text"] == "Answer in one sentence.\n\nQuestion: why?"


@pytest.mark.parametrize(
    ("said", "begins"), [("May I have a REFUND?", "We are sorry."), ("Hello", "Thank you for your message: Hello")]
)
async def test_router_takes_the_way_that_fits(said: str, begins: str, app: Millstream) -> None:
    assert (await output(app, "router", input_value=said))["text"].startswith(begins)


async def test_loop_repeats_until_it_is_done(app: Millstream) -> None:
    assert await output(app, "loop", input_value="a         b  c", input_type="text") == "a b c"


async def test_http_json_picks_a_value_out_of_an_answer(app: Millstream) -> None:
    body = json.dumps({"owner": {"login": "ada"}}).encode()
    with listening(lambda asked: asked.answer(200, body, content_type="application/json")) as listener:
        url = f"http://127.0.0.1:{listener.port}/"
        assert await output(app, "http_json", input_value=url, input_type="text") == "ada"


async def test_slow_waits_and_can_be_cancelled_meanwhile(app: Millstream) -> None:
    job = await app.submit(flow_of("slow", app), input_value="hello")
    async for event in job.events():
        if event.type == "waiting":
            break
    await job.cancel()
    with pytest.raises(JobCancelledError):
        await job.result()
