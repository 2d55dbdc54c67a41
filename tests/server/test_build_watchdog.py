"""Builds that were polled, and are polled no more."""

from __future__ import annotations

import httpx
import pytest

from millstream.model.job import JobState
from tests.server.building import another, start, streamed
from tests.server.running import RunningServer

STALE_SECONDS = 4.0
"""Long enough that who polls on a busy machine is not late."""


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {
        "imports": "tests.server.build_flows",
        "disconnect_grace": 0.0,
        "redis_queue_polling_stale_threshold_s": STALE_SECONDS,
        "redis_queue_polling_watchdog_interval_s": 0.1,
    }


def poll(client: httpx.Client, job_id: str) -> None:
    answer = client.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0")
    assert answer.status_code == 200


def test_a_build_that_is_polled_no_more_is_cancelled(server: RunningServer, alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    poll(alice, job_id)
    assert server.do(lambda site: site.app.ended(job_id)).state is JobState.CANCELLED


def test_a_build_that_was_polled_outlives_its_streams(server: RunningServer, alice: httpx.Client) -> None:
    polled, streamed_only = start(alice, "endless"), start(alice, "endless")
    poll(alice, polled)
    with another(alice) as own:
        for job_id in (polled, streamed_only):
            pieces = streamed(own, job_id)
            next(pieces)
            pieces.close()
    assert server.do(lambda site: site.app.ended(streamed_only)).state is JobState.CANCELLED
    assert server.do(lambda site: site.app.record(polled)).state is JobState.RUNNING
    assert server.do(lambda site: site.app.ended(polled)).state is JobState.CANCELLED


def test_a_poll_that_waits_keeps_a_build_alive(server: RunningServer, alice: httpx.Client) -> None:
    job_id = start(alice, "endless")
    url = f"/api/v1/build/{job_id}/events?event_delivery=polling"
    cursor = alice.get(url).headers["X-Next-Cursor"]
    alice.get(f"{url}&after={cursor}&wait={STALE_SECONDS + 1}")
    assert server.do(lambda site: site.app.record(job_id)).state is JobState.RUNNING
    alice.post(f"/api/v1/build/{job_id}/cancel")
