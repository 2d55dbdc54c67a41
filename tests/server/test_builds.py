"""Builds over HTTP: begin, stream, poll, cancel."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest

from millstream import points
from millstream.model.job import JobState
from tests.server.building import another, events, flow_id, lines_in, names, sse_in, start, streamed, until
from tests.server.running import RunningServer


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": "tests.server.build_flows", "disconnect_grace": 0.2}


def state_of(server: RunningServer, job_id: str) -> JobState:
    return server.do(lambda site: site.app.record(job_id)).state


def ended(server: RunningServer, job_id: str) -> JobState:
    return server.do(lambda site: site.app.ended(job_id)).state


# --------------------------------------------------------------------------------------------------------- streaming
def test_a_build_streams_all_its_events_as_lines_of_json(alice: httpx.Client) -> None:
    job_id = start(alice, "talk", input_value="ha", words=2)
    answer = alice.get(f"/api/v1/build/{job_id}/events?event_delivery=streaming")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.count("\n\n") == len(lines_in(answer.text))
    told = lines_in(answer.text)
    assert names(told) == [
        *("vertices_sorted", "build_start"),
        *("token", "token", "end_vertex"),
        *("token", "token", "end_vertex"),
        *("end_vertex", "end"),
    ]
    assert told[0]["data"]["to_run"] == ["speak", "speak-2", "finish"]
    assert told[-2]["data"]["build_data"]["data"]["results"] == {"result": "<hahahaha>"}
    assert told[-1]["data"]["status"] == "succeeded"


def test_a_build_is_answered_after_one_commit(alice: httpx.Client) -> None:
    start(alice, "talk")
    counts = []
    for _ in range(9):
        reached: list[str] = []
        points.arm(reached.append)
        try:
            job_id = start(alice, "endless")
        finally:
            points.arm(None)
        assert alice.post(f"/api/v1/build/{job_id}/cancel").status_code == 200
        counts.append(reached[: reached.index("submit-after-commit")].count("in-commit"))
    assert sorted(counts)[4] == 1, counts  # now and then the server has something of its own to record


def test_a_late_reader_gets_the_whole_replay(alice: httpx.Client, server: RunningServer) -> None:
    job_id = start(alice, "talk")
    first = alice.get(f"/api/v1/build/{job_id}/events").content
    assert alice.get(f"/api/v1/build/{job_id}/events").content == first
    server.do(lambda site: _forget(site, job_id))
    durable = [event for event in lines_in(first.decode()) if event["event"] != "token"]
    again = [event for event in events(alice, job_id) if event["event"] != "token"]
    assert again == durable


async def _forget(site: Any, job_id: str) -> None:
    """Forget what this process knows of a job, as if it had just started."""
    site.builds._watched.pop(job_id)
    site.app._home.log.forget(job_id)


@pytest.mark.parametrize("size", [20_000, 2_000_000])
def test_large_results_are_told_whole_up_to_a_mebibyte_and_then_by_their_size(
    alice: httpx.Client, server: RunningServer, size: int
) -> None:
    job_id = start(alice, "large", size=size)
    told = events(alice, job_id)
    (built,) = (event["data"]["build_data"] for event in told if event["event"] == "end_vertex")
    result = built["data"]["results"]["result"]
    assert result == "x" * size if size < 1 << 20 else (result["$type"], result["size"] > size) == ("reference", True)
    server.do(lambda site: _forget(site, job_id))
    assert events(alice, job_id) == told


def test_direct_delivery_streams_on_the_request_itself(alice: httpx.Client) -> None:
    query = f"/api/v1/build/{flow_id('talk')}/flow?event_delivery=direct"
    told = lines_in(alice.post(query, json={"inputs": {"input_value": "x"}}).text)
    assert names(told)[0] == "vertices_sorted"
    assert names(told)[-1] == "end"
    again = events(alice, told[1]["data"]["id"])
    assert again == told


def test_a_disconnect_at_every_event_is_resumed_with_the_exact_suffix(alice: httpx.Client) -> None:
    job_id = start(alice, "talk", words=3)
    whole = sse_in("".join(streamed(alice, job_id)))
    assert whole[-1][1]["event"] == "end"
    for cut, (cursor, _) in enumerate(whole):
        if cursor is not None:
            assert sse_in("".join(streamed(alice, job_id, after=cursor))) == whole[cut + 1 :]


def test_fifty_readers_of_a_job_get_the_same_bytes(alice: httpx.Client) -> None:
    job_id = start(alice, "talk", words=200)
    ready = threading.Barrier(50)

    with another(alice) as many, ThreadPoolExecutor(50) as pool:

        def digest(_: int) -> str:
            ready.wait(120)
            answer = many.get(f"/api/v1/build/{job_id}/events")
            assert lines_in(answer.text)[-1]["event"] == "end"
            return hashlib.sha256(answer.content).hexdigest()

        assert len(set(pool.map(digest, range(50)))) == 1


def test_server_sent_events_begin_with_how_soon_to_come_again(alice: httpx.Client) -> None:
    text = "".join(streamed(alice, start(alice, "talk")))
    assert text.startswith("retry: ")


# --------------------------------------------------------------------------------------------------------- polling
def test_polls_with_the_next_cursor_give_everything_once(alice: httpx.Client) -> None:
    job_id = start(alice, "talk", words=20)
    told: list[dict[str, Any]] = []
    cursor = "0-0"
    while "end" not in names(told):
        answer = alice.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&after={cursor}")
        assert answer.status_code == 200
        cursor = answer.headers["X-Next-Cursor"]
        told += lines_in(answer.text)
    assert told == events(alice, job_id)


def test_a_poll_that_does_not_wait_gets_what_is_there(alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    told = lines_in(alice.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0").text)
    assert names(told)[0] == "vertices_sorted"
    alice.post(f"/api/v1/build/{job_id}/cancel")


def test_a_poll_without_news_is_empty_when_its_time_is_over(alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    cursor = "0-0"
    for _ in range(3):
        answer = alice.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&after={cursor}&wait=0.05")
        cursor = answer.headers["X-Next-Cursor"]
    assert (answer.status_code, answer.text, answer.headers["X-Next-Cursor"]) == (200, "", cursor)
    future = alice.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&after=999-0&wait=0.05")
    assert (future.status_code, future.text, future.headers["X-Next-Cursor"]) == (200, "", "999-0")


@pytest.mark.parametrize("cursor", ["x", "1", "1-", "-1-0", "1-0-0", "01-0", "٣-0"])
def test_a_cursor_that_is_none_is_refused(alice: httpx.Client, cursor: str) -> None:
    answer = alice.get(f"/api/v1/build/{start(alice, 'talk')}/events", params={"after": cursor})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


# ------------------------------------------------------------------------------------------------- whose, and which
def test_an_unknown_flow_is_not_found_and_no_uuid_is_refused(alice: httpx.Client) -> None:
    unknown = str(uuid4())
    answer = alice.post(f"/api/v1/build/{unknown}/flow", json={})
    assert (answer.status_code, answer.json()["detail"]) == (404, f"Flow with id {unknown} not found")
    assert alice.post("/api/v1/build/nothing/flow", json={}).status_code == 422


def test_inputs_that_do_not_fit_are_refused_by_name(alice: httpx.Client) -> None:
    answer = alice.post(f"/api/v1/build/{flow_id('talk')}/flow", json={"inputs": {"colour": "red", "priority": 9}})
    assert answer.status_code == 422
    assert "'colour'" in answer.json()["detail"]
    assert "'priority'" in answer.json()["detail"]


def test_a_foreign_job_is_not_there(alice: httpx.Client, bob: httpx.Client, admin: httpx.Client) -> None:
    job_id = start(alice, "endless")
    unknown = str(uuid4())
    for path, ask in (("events?event_delivery=polling&wait=0", bob.get), ("cancel", bob.post)):
        foreign, missing = ask(f"/api/v1/build/{job_id}/{path}"), ask(f"/api/v1/build/{unknown}/{path}")
        assert (foreign.status_code, missing.status_code) == (404, 404)
        assert foreign.text.replace(job_id, unknown) == missing.text
    assert admin.post(f"/api/v1/build/{job_id}/cancel").status_code == 200


def test_one_idempotency_key_makes_one_job(alice: httpx.Client, bob: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    first = start(alice, "talk", headers=key, input_value="a")
    assert start(alice, "talk", headers=key, input_value="a") == first
    assert start(bob, "talk", headers=key, input_value="a") != first
    url = f"/api/v1/build/{flow_id('talk')}/flow"
    assert alice.post(url, json={"inputs": {"input_value": "b"}}, headers=key).status_code == 409


def test_a_build_that_was_purged_before_anybody_read_it_is_not_there(
    server: RunningServer, alice: httpx.Client
) -> None:
    job_id = start(alice, "talk")
    ended(server, job_id)
    assert alice.post("/api/v1/jobs/actions", json={"action": "purge", "ids": [job_id]}).status_code == 200

    def is_gone() -> bool:
        return alice.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0").status_code == 404

    until(is_gone)


# ------------------------------------------------------------------------------------------------------ cancelling
def test_a_hundred_cancels_at_once_are_all_told_that_it_is_cancelled(alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    with another(alice) as many, ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: many.post(f"/api/v1/build/{job_id}/cancel"), range(100)))
    done = {"success": True, "message": "Flow build cancelled successfully"}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, done)] * 100
    told = events(alice, job_id)
    assert names(told).count("end") == 1
    assert (told[-1]["data"]["status"], told[-1]["data"]["reason"]) == ("cancelled", "cancel")


@pytest.mark.parametrize(("name", "state"), [("talk", "succeeded"), ("broken", "failed")])
def test_a_cancel_that_comes_too_late_tells_how_it_ended(alice: httpx.Client, name: str, state: str) -> None:
    job_id = start(alice, name)
    events(alice, job_id)
    answer = alice.post(f"/api/v1/build/{job_id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (409, state)


# ------------------------------------------------------------------------------------------------- when nobody looks
def glance(client: httpx.Client, job_id: str) -> None:
    """Open a stream, and close it after the first piece."""
    with another(client) as own, closing(streamed(own, job_id)) as pieces:
        next(pieces)


def test_a_build_whose_streams_are_all_closed_is_cancelled(server: RunningServer, alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    glance(alice, job_id)
    glance(alice, job_id)
    assert ended(server, job_id) is JobState.CANCELLED


def test_a_direct_build_whose_request_is_gone_is_cancelled(server: RunningServer, alice: httpx.Client) -> None:
    url = f"/api/v1/build/{flow_id('endless')}/flow?event_delivery=direct"
    with another(alice) as own, own.stream("POST", url, json={}) as answer:
        seen = ""
        pieces = answer.iter_text()
        while "build_start" not in seen:
            seen += next(pieces)
    (started,) = (event for event in lines_in(seen) if event["event"] == "build_start")
    assert ended(server, started["data"]["id"]) is JobState.CANCELLED


def test_a_build_that_nobody_ever_read_runs_on(server: RunningServer, alice: httpx.Client) -> None:
    job_id, read = start(alice, "endless"), start(alice, "endless")
    glance(alice, read)
    assert ended(server, read) is JobState.CANCELLED
    assert state_of(server, job_id) is JobState.RUNNING
    alice.post(f"/api/v1/build/{job_id}/cancel")


def test_a_build_that_one_still_looks_at_goes_on(server: RunningServer, alice: httpx.Client) -> None:
    job_id, other = start(alice, "endless"), start(alice, "endless")
    with another(alice) as own, closing(streamed(own, job_id)) as pieces:
        next(pieces)
        glance(alice, job_id)
        glance(alice, other)
        assert ended(server, other) is JobState.CANCELLED  # so long is the grace
        assert state_of(server, job_id) is JobState.RUNNING
        alice.post(f"/api/v1/build/{job_id}/cancel")
        assert sse_in("".join(pieces))[-1][1]["data"]["status"] == "cancelled"


def test_a_slow_reader_holds_up_nobody_and_gets_everything(server: RunningServer, alice: httpx.Client) -> None:
    job_id = start(alice, "flood", megabytes=12)
    with another(alice) as slow, slow.stream("GET", f"/api/v1/build/{job_id}/events") as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        fast = alice.get(f"/api/v1/build/{job_id}/events").content
        assert len(fast) > 12_000_000
        feed = server.do(lambda site: _feed(site, job_id))
        assert feed.size <= 4 << 20
        assert hashlib.sha256(first + b"".join(pieces)).digest() == hashlib.sha256(fast).digest()


async def _feed(site: Any, job_id: str) -> Any:
    return site.builds._watched[job_id].feed


def test_an_endless_build_is_streamed_while_it_runs(alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    with closing(streamed(alice, job_id)) as pieces:
        seen = ""
        while "build_start" not in seen:
            seen += next(pieces)
        assert alice.post(f"/api/v1/build/{job_id}/cancel").status_code == 200
        assert "cancelled" in "".join(pieces)
