"""Runs over HTTP: one request, one answer with the outputs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from millstream import Millstream
from millstream.server.site import Site
from tests.server.building import events, sse_in, until
from tests.server.flow_cases import ECHO
from tests.server.running import RunningServer

CHAT: dict[str, Any] = {**ECHO}


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": "tests.server.build_flows"}


@pytest.fixture
def echo(alice: httpx.Client) -> dict[str, Any]:
    """A stored flow: what is said is said again."""
    flow: dict[str, Any] = alice.post("/api/v1/flows/", json={"name": "echo", "data": CHAT}).json()
    return flow


def test_a_run_answers_with_the_outputs_of_the_chat(alice: httpx.Client, echo: dict[str, Any]) -> None:
    answer = alice.post(f"/api/v1/run/{echo['id']}", json={"input_value": "good day", "session_id": "s1"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["session_id"] == "s1"
    (run,) = told["outputs"]
    assert run["inputs"] == {"input_value": "good day"}
    (output,) = run["outputs"]
    assert output["component_id"] == "answer"
    assert output["results"]["message"]["text"] == "good day"
    assert [said["message"] for said in output["messages"]] == ["good day"]
    assert output["messages"][0]["session_id"] == "s1"


def test_a_flow_is_run_by_its_name_too(alice: httpx.Client, bob: httpx.Client, echo: dict[str, Any]) -> None:
    assert alice.post(f"/api/v1/run/{echo['name']}", json={"input_value": "x"}).status_code == 200
    foreign, missing = bob.post(f"/api/v1/run/{echo['id']}"), bob.post("/api/v1/run/nothing")
    assert (foreign.status_code, missing.status_code) == (404, 404)


def test_a_name_that_others_have_too_means_ones_own_flow(
    admin: httpx.Client, bob: httpx.Client, echo: dict[str, Any]
) -> None:
    node = {"id": "own", "data": {"component": "ChatOutput", "values": {"input_value": "own"}}}
    mine = {"name": echo["name"], "data": {"nodes": [node], "edges": []}}
    assert admin.post("/api/v1/flows/", json=mine).status_code == 201
    outputs = admin.post(f"/api/v1/run/{echo['name']}").json()["outputs"][0]["outputs"]
    assert outputs[0]["component_id"] == "own"
    in_python = "tests.server.build_flows.talk"
    assert bob.post("/api/v1/flows/", json={**mine, "name": in_python}).status_code == 201
    outputs = admin.post(f"/api/v1/run/{in_python}").json()["outputs"][0]["outputs"]
    assert "own" not in {output["component_id"] for output in outputs}


@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_large_integers_are_told_as_they_are(alice: httpx.Client, query: str) -> None:
    answer = alice.post(f"/api/v1/run/tests.server.build_flows.count{query}")
    assert answer.status_code == 200
    assert f'"result":{2**70}' in answer.text.replace(" ", "")


def test_a_flow_in_python_is_run_by_its_name(alice: httpx.Client) -> None:
    answer = alice.post("/api/v1/run/tests.server.build_flows.talk", json={"inputs": {"words": 1}, "input_value": "a"})
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"][0]["outputs"]
    assert outputs[-1]["results"] == {"result": "<aaaa>"}


@pytest.mark.parametrize(
    ("name", "inputs", "told"),
    [("endless", {}, "it takes no inputs"), ("gated", {"path": "/"}, 'it takes path, in "inputs"')],
)
def test_what_is_said_to_a_flow_in_python_that_takes_none_is_refused(
    alice: httpx.Client, name: str, inputs: dict[str, Any], told: str
) -> None:
    url = f"/api/v1/run/tests.server.build_flows.{name}"
    for body in ({"input_value": "hello", "inputs": inputs}, {"inputs": {**inputs, "input_value": "hello"}}):
        answer = alice.post(url, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"] == f"tests.server.build_flows.{name} has no input_value: {told}"
    said_nothing = {"input_value": "", "inputs": inputs, "unknown": 1}
    started = alice.post(url, json=said_nothing, headers={"Prefer": "wait=0"})
    assert started.status_code in {200, 202}, started.text
    alice.post(f"/api/v1/build/{started.headers['Location'].rpartition('/')[2]}/cancel")


def test_a_stream_of_a_run_ends_with_its_answer(alice: httpx.Client, echo: dict[str, Any]) -> None:
    answer = alice.post(f"/api/v1/run/{echo['id']}?stream=true", json={"input_value": "hi"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = sse_in(answer.text)
    assert [data["event"] for _, data in told][-1] == "end"
    result = told[-1][1]["data"]["result"]
    assert result["outputs"][0]["outputs"][0]["results"]["message"]["text"] == "hi"


def test_a_failing_node_is_told_with_its_message(alice: httpx.Client) -> None:
    answer = alice.post("/api/v1/run/tests.server.build_flows.broken")
    assert answer.status_code == 500
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["node"] == "break_down"
    assert told["message"] == "ValueError: no bread"
    assert "Traceback" in told["traceback"]


def test_a_run_that_takes_longer_than_is_preferred_goes_on(alice: httpx.Client) -> None:
    answer = alice.post("/api/v1/run/tests.server.build_flows.endless", headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json()["status"]) == (202, "in progress")
    job_id = answer.json()["job_id"]
    assert answer.headers["Location"] == f"/api/v1/jobs/{job_id}"
    assert alice.post(f"/api/v1/build/{job_id}/cancel").status_code == 200


def test_a_document_in_the_body_is_built_in_place_of_the_stored_one(alice: httpx.Client, echo: dict[str, Any]) -> None:
    node = {"id": "only", "data": {"component": "TextOutput", "values": {"input_value": "this once"}}}
    url = f"/api/v1/build/{echo['id']}/flow?event_delivery=direct"
    text = alice.post(url, json={"data": {"nodes": [node], "edges": []}}).text
    assert '"to_run":["only"]' in text
    assert "this once" in text
    wrong = alice.post(url, json={"data": {"nodes": [{**node, "code": "import os"}], "edges": []}})
    assert wrong.status_code == 422
    assert wrong.json()["errors"]
    large = alice.post(url, json={"data": {"nodes": [{**node, "width": 2**70}], "edges": []}})
    assert large.status_code == 422


def test_a_part_of_a_document_is_built(alice: httpx.Client, echo: dict[str, Any]) -> None:
    url = f"/api/v1/build/{echo['id']}/flow?event_delivery=direct&stop_component_id="
    assert '"to_run":["question"]' in alice.post(url + "question").text
    assert alice.post(url + "nothing").status_code == 422


def test_a_changed_flow_is_run_as_it_is_now(alice: httpx.Client, echo: dict[str, Any]) -> None:
    url = f"/api/v1/run/{echo['id']}"
    assert alice.post(url, json={"input_value": "x"}).json()["outputs"][0]["outputs"][0]["component_id"] == "answer"
    node = {"id": "new", "data": {"component": "ChatOutput", "values": {"input_value": "changed"}}}
    changed = alice.patch(f"/api/v1/flows/{echo['id']}", json={"data": {"nodes": [node], "edges": []}})
    assert changed.status_code == 200, changed.text
    assert alice.post(url, json={}).json()["outputs"][0]["outputs"][0]["component_id"] == "new"


def test_a_flow_that_another_process_changed_is_run_as_it_is_within_a_second(
    alice: httpx.Client, server: RunningServer, echo: dict[str, Any]
) -> None:
    url = f"/api/v1/run/{echo['id']}"
    assert alice.post(url, json={"input_value": "x"}).status_code == 200
    node = {"id": "new", "data": {"component": "ChatOutput", "values": {"input_value": "changed"}}}

    async def change(site: Site) -> None:
        async with Millstream(settings=site.settings) as other:
            store = await other.flow_store()
            await store.replace(replace(await store.get(echo["id"], None), data={"nodes": [node], "edges": []}))

    server.do(change)

    def component() -> str:
        told: str = alice.post(url, json={}).json()["outputs"][0]["outputs"][0]["component_id"]
        return told

    until(lambda: component() == "new")


def test_a_deleted_flow_is_run_no_more(alice: httpx.Client, echo: dict[str, Any]) -> None:
    url = f"/api/v1/run/{echo['id']}"
    assert alice.post(url, json={"input_value": "x"}).status_code == 200
    assert alice.delete(f"/api/v1/flows/{echo['id']}").status_code == 200
    assert alice.post(url, json={"input_value": "x"}).status_code == 404


def test_a_key_stands_for_the_document_in_the_body_too(alice: httpx.Client, echo: dict[str, Any]) -> None:
    url, key = f"/api/v1/build/{echo['id']}/flow", {"Idempotency-Key": "documents"}

    def build(value: str) -> httpx.Response:
        node = {"id": "only", "data": {"component": "TextOutput", "values": {"input_value": value}}}
        return alice.post(url, json={"data": {"nodes": [node], "edges": []}}, headers=key)

    first, again, other = build("a"), build("a"), build("b")
    assert (first.status_code, again.json()) == (200, first.json())
    assert other.status_code == 409


def test_a_run_that_asks_people_answers_before_they_do(alice: httpx.Client) -> None:
    node = {"id": "ask", "data": {"component": "HumanApproval", "values": {"question": "really?"}}}
    flow = {"name": "asks", "data": {"nodes": [node], "edges": []}}
    flow_id = alice.post("/api/v1/flows/", json=flow).json()["id"]
    answer = alice.post(f"/api/v1/run/{flow_id}")
    assert (answer.status_code, answer.json()["status"]) == (202, "in progress")
    job_id = answer.json()["job_id"]
    approved = alice.post(f"/api/v1/jobs/{job_id}/approve", json={"node": "ask", "answer": "yes"})
    assert approved.status_code == 200, approved.text
    told = events(alice, job_id)
    assert [event["data"]["question"] for event in told if event["event"] == "human_input_required"] == ["really?"]
    assert told[-1]["data"]["status"] == "succeeded"
