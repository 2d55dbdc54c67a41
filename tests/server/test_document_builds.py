"""What is told of builds of flow documents: a vertex for each node of the document, whatever it is made of."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.documents import document, node
from tests.server.building import lines_in, names
from tests.server.flow_cases import ECHO

WAYS = document(
    [
        node("in", "ChatInput"),
        node("if", "IfElse", operator="contains", other="a"),
        node("yes", "TextTransform", operation="upper"),
        node("no", "TextTransform", operation="lower"),
        node("after-no", "TextOutput"),
        node("either", "Merge"),
        node("out", "ChatOutput"),
    ],
    ("in.text", "if.value"),
    ("if.true", "yes.text"),
    ("if.false", "no.text"),
    ("no.result", "after-no.input_value"),
    ("yes.result", "either.values"),
    ("no.result", "either.values"),
    ("either.result", "out.input_value"),
)

TURNS = document(
    [
        node("turns", "Loop", value="a"),
        node("twice", "TextTransform", parent="turns", operation="upper"),
        node("enough", "Condition", parent="turns", operator="is true", value=True),
        node("out", "TextOutput"),
    ],
    ("turns.current", "twice.text"),
    ("twice.result", "turns.next"),
    ("enough.result", "turns.done"),
    ("turns.result", "out.input_value"),
)


def calling(inner: str) -> dict[str, Any]:
    return document(
        [node("in", "ChatInput"), node("inner", "Subflow", flow=inner), node("out", "TextOutput")],
        ("in.text", "inner.input_value"),
        ("inner.result", "out.input_value"),
    )


@pytest.fixture
def flow(alice: httpx.Client) -> str:
    flow_id: str = alice.post("/api/v1/flows/", json={"name": "any", "data": ECHO}).json()["id"]
    return flow_id


def built(client: httpx.Client, flow: str, data: dict[str, Any], text: str = "abc") -> list[dict[str, Any]]:
    """Return what is told of a build of a document."""
    body = {"data": data, "inputs": {"input_value": text}}
    answer = client.post(f"/api/v1/build/{flow}/flow?event_delivery=direct", json=body)
    assert answer.status_code == 200, answer.text
    return lines_in(answer.text)


def ends(told: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = [event["data"]["build_data"] for event in told if event["event"] == "end_vertex"]
    assert len({end["id"] for end in found}) == len(found), "a vertex ended twice"
    return {end["id"]: end for end in found}


def test_a_router_is_one_vertex_and_names_what_it_left_out(alice: httpx.Client, flow: str) -> None:
    told = built(alice, flow, WAYS)
    assert told[0]["data"]["to_run"] == ["in", "if", "yes", "no", "after-no", "either", "out"]
    vertices = ends(told)
    assert list(vertices) == ["in", "if", "yes", "either", "out"]
    assert vertices["if"]["next_vertices_ids"] == ["yes"]
    assert vertices["if"]["inactivated_vertices"] == ["no", "after-no"]
    assert vertices["if"]["data"]["results"] == {"true": "abc"}
    assert vertices["either"]["next_vertices_ids"] == ["out"]
    assert vertices["out"]["data"]["results"]["message"]["text"] == "ABC"
    assert told[-1]["data"]["status"] == "succeeded"


def test_turns_of_a_loop_are_part_of_its_vertex(alice: httpx.Client, flow: str) -> None:
    told = built(alice, flow, TURNS)
    assert told[0]["data"]["to_run"] == ["turns", "out"]
    vertices = ends(told)
    assert list(vertices) == ["turns", "out"]
    assert vertices["out"]["data"]["results"] == {"text": "A"}


def test_a_sub_flow_is_one_vertex(alice: httpx.Client, flow: str) -> None:
    inner = alice.post("/api/v1/flows/", json={"name": "inner", "data": ECHO}).json()["id"]
    told = built(alice, flow, calling(inner))
    assert told[0]["data"]["to_run"] == ["in", "inner", "out"]
    vertices = ends(told)
    assert list(vertices) == ["in", "inner", "out"]
    assert (vertices["in"]["next_vertices_ids"], vertices["inner"]["next_vertices_ids"]) == (["inner"], ["out"])


def test_a_failure_in_a_sub_flow_is_its_vertex_failure(alice: httpx.Client, flow: str) -> None:
    data = document([node("in", "ChatInput"), node("parse", "JsonParse")], ("in.text", "parse.text"))
    inner = alice.post("/api/v1/flows/", json={"name": "fails", "data": data}).json()["id"]
    told = built(alice, flow, calling(inner), text="no JSON")
    vertices = ends(told)
    assert (vertices["inner"]["valid"], vertices["inner"]["inactivated_vertices"]) == (False, ["out"])
    (error,) = (event["data"] for event in told if event["event"] == "error")
    assert error["node"] == "inner.parse"
    assert names(told)[-1] == "end"
    assert told[-1]["data"]["status"] == "failed"
