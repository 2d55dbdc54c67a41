"""Jobs over HTTP: all in one list, each with its story, and what can be done to it."""

import json
import time
from collections.abc import Collection
from typing import Any

import httpx
import pytest

from millstream.clock import new_id
from tests.server.flow_cases import ECHO
from tests.server.job_flows import gate
from tests.server.running import PATIENCE, RunningServer

TASKS = "tests.server.job_flows"
UNKNOWN = "0195a1a2-0000-7000-8000-000000000000"
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": [TASKS]}


def made(client: httpx.Client, name: str, *args: Any) -> str:
    answer = client.post("/run-task", json={"task": f"{TASKS}.{name}", "args": args})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def when(client: httpx.Client, job_id: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        told: dict[str, Any] = client.get(f"/api/v1/jobs/{job_id}").json()
        if told["state"] in states:
            return told
        time.sleep(0.01)
    raise TimeoutError(f"job {job_id} never was {states}: {told}")


def standing(client: httpx.Client) -> tuple[str, str]:
    """Return a job that runs until its gate is opened, and the gate's name."""
    job_id, name = made(client, "stand", gated := new_id()), gated
    assert gate(f"{name} is there").wait(PATIENCE)
    return job_id, name


def test_a_job_is_told_with_its_nodes_and_attempts(alice: httpx.Client) -> None:
    told = when(alice, made(alice, "steps", 4), *ENDED)
    assert (told["state"], told["result"], told["inputs"], told["error"]) == ("succeeded", 8, {"n": 4}, None)
    assert [(node["node"], node["state"], node["attempt"]) for node in told["nodes"]] == [
        ("stumble", "succeeded", 2),
        ("double", "succeeded", 1),
    ]
    assert [begun["attempt"] for begun in told["attempts"]] == [1]
    assert told["created_at"] <= told["started_at"] <= told["ended_at"]


def test_a_failed_job_is_told_with_where_and_why(alice: httpx.Client, admin: httpx.Client) -> None:
    job_id = made(alice, "failing", 4)
    told = when(alice, job_id, *ENDED)
    assert (told["state"], told["reason"]) == ("failed", "error")
    error = told["error"]
    assert (error["type"], error["message"], error["node"]) == ("builtins:ValueError", "on purpose", "fail")
    assert "job_flows.py" in error["traceback"]
    others = admin.get(f"/api/v1/jobs/{job_id}")
    assert others.json()["error"] == error | {"traceback": None}
    assert "job_flows.py" not in others.text + admin.get(f"/api/v1/jobs/{job_id}/events").text
    assert "job_flows.py" not in admin.get("/api/v1/jobs?state=failed").text


def test_jobs_are_listed_in_pages_by_state_flow_and_age(alice: httpx.Client) -> None:
    flow = f"{TASKS}.double"
    jobs = [made(alice, "double", n) for n in range(5)]
    for job_id in jobs:
        when(alice, job_id, "succeeded")
    newest = alice.get("/api/v1/jobs", params={"flow": flow, "state": "succeeded,failed", "since": "1h"}).json()
    mine = [job["job_id"] for job in newest if job["job_id"] in jobs]
    assert mine == jobs[::-1]
    walked, address = [], f"/api/v1/jobs?flow={flow}&sort=created_at&limit=2"
    while address:
        page = alice.get(address)
        assert page.status_code == 200, page.text
        assert len(page.json()) <= 2
        walked += [job["job_id"] for job in page.json()]
        address = page.links.get("next", {}).get("url", "")
    assert [job_id for job_id in walked if job_id in jobs] == jobs
    assert alice.get("/api/v1/jobs?before=1h").json() == []
    assert alice.get("/api/v1/jobs?reason=poison").json() == []
    for wrong in ("state=gone", "since=yesterday", "reason=bad", "limit=0", "limit=1001", "sort=x", "begins=zz"):
        assert alice.get(f"/api/v1/jobs?{wrong}").status_code == 422, wrong
    assert alice.get("/api/v1/jobs?cursor=x").status_code == 400


def test_a_job_is_found_by_its_beginning_and_by_a_task_of_it(alice: httpx.Client, bob: httpx.Client) -> None:
    job_id = made(alice, "double", 1)
    for asked in ({"begins": job_id[:23]}, {"task": job_id}, {"task": f"{job_id}.double"}):
        assert [job["job_id"] for job in alice.get("/api/v1/jobs", params=asked).json()] == [job_id]
        assert bob.get("/api/v1/jobs", params=asked).json() == []


def test_jobs_of_the_app_itself_are_for_superusers_only(
    server: RunningServer, alice: httpx.Client, admin: httpx.Client
) -> None:
    async def submit(site: Any) -> str:
        return str((await site.app.submit(f"{TASKS}.double", n=1)).id)

    job_id = server.do(submit)
    assert alice.get(f"/api/v1/jobs/{job_id}").status_code == 404
    assert when(admin, job_id, "succeeded")["owner"] is None
    assert job_id in {job["job_id"] for job in admin.get("/api/v1/jobs").json()}
    assert job_id not in {job["job_id"] for job in alice.get("/api/v1/jobs").json()}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_are_streamed_to_the_end_and_resumed_behind_a_cursor(alice: httpx.Client) -> None:
    job_id, name = standing(alice)
    with alice.stream("GET", f"/api/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["content-type"].startswith("application/x-ndjson")
        coming = stream.iter_lines()
        first = [json.loads(next(coming)) for _ in range(2)]
        gate(name).set()
        rest = [json.loads(line) for line in coming]
    every = [event["type"] for event in first + rest if not event["type"].startswith("node_started")]
    assert every == ["planned", "started", "node_succeeded", "ended"]
    again = lines(alice.get(f"/api/v1/jobs/{job_id}/events?after={rest[-2]['cursor']}").text)
    assert again == rest[-1:]
    now = lines(alice.get(f"/api/v1/jobs/{job_id}/events?follow=false").text)
    assert now[-1]["type"] == "ended"
    assert alice.get(f"/api/v1/jobs/{job_id}/events?after=soon").status_code == 400


def test_events_are_server_sent_where_that_is_asked_for(alice: httpx.Client) -> None:
    job_id = made(alice, "double", 3)
    when(alice, job_id, "succeeded")
    path, sse = f"/api/v1/jobs/{job_id}/events", {"Accept": "text/event-stream"}
    answer = alice.get(path, headers=sse)
    assert answer.headers["content-type"].startswith("text/event-stream")
    head, *events = answer.text.strip().split("\n\n")
    assert head.startswith("retry: ")
    ids, data = zip(*(event.split("\n", 1) for event in events), strict=True)
    told = [json.loads(line.removeprefix("data: ")) for line in data]
    assert [f"id: {event['cursor']}" for event in told] == list(ids)
    assert told[-1]["type"] == "ended"
    resumed = alice.get(path, headers=sse | {"Last-Event-ID": told[0]["cursor"]})
    assert resumed.text.split("\n\n")[1:] == answer.text.split("\n\n")[2:]


def test_the_logs_are_what_people_want_to_know(alice: httpx.Client) -> None:
    job_id = made(alice, "steps", 2)
    kinds = [event["type"] for event in lines(alice.get(f"/api/v1/jobs/{job_id}/logs?follow=true").text)]
    assert kinds == ["started", "node_retried", "ended"]


def test_a_job_that_runs_is_cancelled_and_stays_so(alice: httpx.Client) -> None:
    job_id, _ = standing(alice)
    for _ in range(2):
        answer = alice.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


def test_a_cancel_that_comes_too_late_says_how_the_job_ended(alice: httpx.Client) -> None:
    job_id = made(alice, "double", 1)
    when(alice, job_id, "succeeded")
    answer = alice.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (409, "succeeded")


def test_a_failed_job_is_retried_and_takes_over_what_succeeded(alice: httpx.Client) -> None:
    job_id = made(alice, "failing", 4)
    when(alice, job_id, "failed")
    answer = alice.post(f"/api/v1/jobs/{job_id}/retry")
    assert answer.status_code == 202, answer.text
    new = answer.json()["job_id"]
    assert answer.headers["Location"] == f"/api/v1/jobs/{new}"
    told = when(alice, new, "failed")
    assert told["repeats"] == job_id
    waited = alice.post(f"/api/v1/jobs/{job_id}/retry", headers={"Prefer": "wait=60"})
    assert (waited.status_code, waited.json()["state"]) == (200, "failed")


def test_a_retry_with_a_key_is_one_retry(alice: httpx.Client) -> None:
    one, other = made(alice, "failing", 7), made(alice, "failing", 7)
    for job_id in (one, other):
        when(alice, job_id, "failed")
    key = {"Idempotency-Key": "again"}
    first = alice.post(f"/api/v1/jobs/{one}/retry", headers=key).json()["job_id"]
    assert alice.post(f"/api/v1/jobs/{one}/retry", headers=key).json()["job_id"] == first
    assert alice.post(f"/api/v1/jobs/{other}/retry", headers=key).status_code == 409


def test_many_retries_that_are_asked_for_twice_with_a_key_are_made_once(alice: httpx.Client) -> None:
    ids = [made(alice, "failing", n) for n in (11, 12)]
    for job_id in ids:
        when(alice, job_id, "failed")
    action, key = {"action": "retry", "ids": ids}, {"Idempotency-Key": "all-again"}
    first, second = (
        [
            answer["new_job_id"]
            for answer in alice.post("/api/v1/jobs/actions", json=action, headers=sent).json()["answers"]
        ]
        for sent in (key, key)
    )
    assert first == second
    assert len({*first, *ids}) == 4


def test_what_cannot_be_retried_is_refused(alice: httpx.Client) -> None:
    job_id = made(alice, "double", 1)
    when(alice, job_id, "succeeded")
    retry = f"/api/v1/jobs/{job_id}/retry"
    assert alice.post(retry).status_code == 409
    assert alice.post(retry, json={"from_start": True}).status_code == 202
    assert alice.post(retry, json={"from_node": "double"}).status_code == 501
    assert alice.post(retry, json={"inputs": {"n": 2}}).status_code == 501
    assert alice.post(retry, json={"from": "x"}).status_code == 422
    running, name = standing(alice)
    assert alice.post(f"/api/v1/jobs/{running}/retry").status_code == 409
    gate(name).set()


def test_an_approval_is_answered(alice: httpx.Client) -> None:
    job_id = made(alice, "ask", "how many?")
    told = when(alice, job_id, "waiting")
    (node,) = [node for node in told["nodes"] if node["state"] == "waiting"]
    assert (node["reason"], node["question"]) == ("approval", "how many?")
    approve = f"/api/v1/jobs/{job_id}/approve"
    assert alice.post(approve, json={"node": "nowhere"}).status_code == 409
    assert alice.post(approve, json={"decision": "repeat"}).status_code == 422
    answer = alice.post(approve, json={"answer": 21})
    assert (answer.status_code, answer.json()) == (200, {"job_id": job_id, "node": node["node"], "is_done": True})
    assert when(alice, job_id, *ENDED)["result"] == 42
    assert alice.post(approve, json={"answer": 21}).status_code == 409


def test_many_jobs_are_seen_to_at_once_with_an_answer_for_each(alice: httpx.Client, bob: httpx.Client) -> None:
    failed, done, foreign = made(alice, "failing", 1), made(alice, "double", 1), made(bob, "failing", 1)
    for client, job_id in ((alice, failed), (alice, done), (bob, foreign)):
        when(client, job_id, *ENDED)
    ids = [failed, done, foreign, UNKNOWN]
    told = alice.post("/api/v1/jobs/actions", json={"action": "retry", "ids": ids}).json()
    assert [(answer["job_id"], answer["is_done"], answer["is_known"]) for answer in told["answers"]] == [
        (failed, True, True),
        (done, False, True),
        (foreign, False, False),
        (UNKNOWN, False, False),
    ]
    foreign_said, unknown_said = (told["answers"][index]["said"] for index in (2, 3))
    assert foreign_said.replace(foreign, UNKNOWN) == unknown_said
    when(alice, told["answers"][0]["new_job_id"], "failed")
    purged = alice.post("/api/v1/jobs/actions", json={"action": "purge", "ids": ids}).json()["answers"]
    assert [answer["is_done"] for answer in purged] == [True, True, False, False]
    assert alice.get(f"/api/v1/jobs/{done}").status_code == 404
    assert bob.get(f"/api/v1/jobs/{foreign}").status_code == 200


def test_a_choice_takes_only_ones_own_jobs_and_those_that_the_action_is_for(
    alice: httpx.Client, bob: httpx.Client
) -> None:
    mine, other = standing(alice)[0], standing(bob)
    chosen = {"action": "cancel", "filter": {"flow": f"{TASKS}.stand", "since": "1h"}}
    told = alice.post("/api/v1/jobs/actions", json=chosen).json()
    assert [(answer["job_id"], answer["said"]) for answer in told["answers"]] == [(mine, "cancelled")]
    assert told["more"] is False
    assert bob.get(f"/api/v1/jobs/{other[0]}").json()["state"] == "running"
    gate(other[1]).set()


@pytest.mark.parametrize(
    "body",
    [
        {"action": "cancel"},
        {"action": "cancel", "ids": [], "filter": {}},
        {"action": "stop", "ids": []},
        {"action": "cancel", "ids": ["x"] * 1001},
        {"action": "cancel", "filter": {"owner": "x"}},
        {"action": "cancel", "filter": {"since": "yesterday"}},
    ],
)
def test_an_action_that_cannot_be_meant_is_refused(alice: httpx.Client, body: dict[str, Any]) -> None:
    assert alice.post("/api/v1/jobs/actions", json=body).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/logs"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/approve"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_the_jobs_of_others_are_not_there_and_nothing_tells_them_from_none(
    alice: httpx.Client, bob: httpx.Client, method: str, path: str, accept: str
) -> None:
    job_id = made(alice, "double", 5)
    when(alice, job_id, "succeeded")
    foreign, unknown = (
        bob.request(method, f"/api/v1/jobs/{asked}{path}", headers={"Accept": accept}) for asked in (job_id, UNKNOWN)
    )
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.text.replace(job_id, UNKNOWN) == unknown.text
    without = {"date", "content-length"}
    assert {name: value for name, value in foreign.headers.items() if name not in without} == {
        name: value for name, value in unknown.headers.items() if name not in without
    }
    for strange in ("~", "*", "%25", f"{TASKS}.double", "admin", "%00"):
        assert bob.request(method, f"/api/v1/jobs/{strange}{path}").status_code == 404, strange


def test_the_flows_of_jobs_are_told_with_what_people_call_them(
    server: RunningServer, alice: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"answers {new_id()}"
    flow_id = alice.post("/api/v1/flows/", json={"name": name, "data": ECHO}).json()["id"]
    for _ in range(2):
        assert alice.post(f"/api/v1/run/{flow_id}", json={"input_value": "x"}).status_code == 200
    looked_up = []
    find = server.site.flows.names

    async def names(flow_ids: Collection[str], owner: str | None) -> dict[str, str]:
        looked_up.append(flow_ids)
        return await find(flow_ids, owner)

    monkeypatch.setattr(server.site.flows, "names", names)
    jobs = alice.get("/api/v1/jobs", params={"flow": f"flow:{flow_id}"}).json()
    assert [(job["flow"], job["flow_name"]) for job in jobs] == [(f"flow:{flow_id}", name)] * 2
    assert len(looked_up) == 1
    one = f"/api/v1/jobs/{jobs[0]['job_id']}"
    assert alice.get(one).json()["flow_name"] == name
    assert when(alice, made(alice, "double", 1), *ENDED)["flow_name"] is None
    alice.delete(f"/api/v1/flows/{flow_id}")
    assert alice.get(one).json()["flow_name"] is None
