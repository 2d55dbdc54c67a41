"""Builds that are looked at from several server processes: who of them has readers, and what is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from millstream.ledger.activity import Look
from millstream.model.job import JobState
from millstream.settings import Settings
from tests.server.building import another, start, streamed, until
from tests.server.running import PASSWORD, RunningServer, signed_in

GRACE = 2.0


class Pair:
    """Two servers on one ledger, each with a superuser who is signed in."""

    def __init__(self, servers: list[RunningServer], stack: ExitStack) -> None:
        self.servers, self._stack = servers, stack
        self.clients = [stack.enter_context(closing(signed_in(server, "admin"))) for server in servers]

    def start(self) -> str:
        return start(self.clients[0], "endless")

    def open(self, number: int, job_id: str, after: str | None = None) -> Any:
        """Open a stream of a build at one of the servers, and return it once something came by it."""
        stream = streamed(self._stack.enter_context(another(self.clients[number])), job_id, after=after)
        next(stream)
        self._stack.callback(stream.close)
        return stream

    def poll(self, number: int, job_id: str) -> None:
        url = f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0"
        assert self.clients[number].get(url).status_code == 200

    def await_sightings(self, job_id: str, *looks: Look) -> None:
        """Wait until the first server knows that a build is looked at like this, at one server each."""

        def are_there() -> bool:
            audience = self.servers[0].do(lambda site: site.app.audience())
            said = self.servers[0].do(lambda _: audience._said([job_id])).get(job_id, [])
            return sorted(one.look for one in said) == sorted(looks)

        until(are_there)

    def state(self, job_id: str) -> JobState:
        return self.servers[0].do(lambda site: site.app.record(job_id)).state

    def monitor(self, number: int, scope: str = "process") -> dict[str, Any]:
        answer = self.clients[number].get("/api/v1/monitor/job_queue", params={"scope": scope})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(params=["asyncio", "redis"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    given: dict[str, Any] = {
        "config_dir": tmp_path,
        "superuser": "admin",
        "superuser_password": PASSWORD,
        "auto_login": False,
        "drain_grace": 0.5,
        "imports": "tests.server.build_flows",
        "job_queue_type": request.param,
        "disconnect_grace": GRACE,
        "redis_queue_polling_stale_threshold_s": 4.0,
        "redis_queue_polling_watchdog_interval_s": 0.2,
    }
    if request.param == "redis":
        given["redis_queue_url"] = request.getfixturevalue("valkey_url")
    with ExitStack() as stack:
        servers = [stack.enter_context(RunningServer(Settings.of(**given))) for _ in range(2)]
        yield Pair(servers, stack)


def test_a_build_is_cancelled_when_the_readers_of_all_processes_have_gone(pair: Pair) -> None:
    job_id = pair.start()
    streams = [pair.open(number, job_id) for number in (0, 1)]
    pair.await_sightings(job_id, Look(is_open=True), Look(is_open=True))
    streams[0].close()
    time.sleep(2 * GRACE)  # that nothing happens shows after a time only
    assert pair.state(job_id) is JobState.RUNNING
    streams[1].close()
    until(lambda: pair.state(job_id) is JobState.CANCELLED)


def test_a_build_that_is_polled_at_one_process_outlives_streams_at_another(pair: Pair) -> None:
    job_id, unread = pair.start(), pair.start()
    pair.poll(1, job_id)
    pair.await_sightings(job_id, Look(is_open=False, is_polled=True))
    stream = pair.open(0, job_id)
    stream.close()
    until(lambda: pair.state(job_id) is JobState.CANCELLED)
    if pair.monitor(0)["backend"] == "redis":  # whoever cancels counts it a moment later

        def kills() -> int:
            told = [pair.monitor(number)["cancel_stats"] for number in (0, 1)]
            return sum(stats["polling_watchdog_kills"] for stats in told)

        until(lambda: kills() >= 1)
    assert pair.state(unread) is JobState.RUNNING


def test_a_cancel_at_one_process_stops_what_runs_in_another(pair: Pair) -> None:
    job_id = pair.start()
    until(lambda: pair.monitor(0)["active_jobs"] == 1)
    answer = pair.clients[1].post(f"/api/v1/build/{job_id}/cancel")
    assert answer.json() == {"success": True, "message": "Flow build cancelled successfully"}
    if pair.monitor(0)["backend"] == "redis":
        names = ("published", "dispatched_owned", "dispatched_foreign")

        def figures(number: int) -> tuple[int, ...]:
            told = pair.monitor(number)["cancel_stats"]
            return tuple(told[name] for name in names)

        until(lambda: (figures(0), figures(1)) == ((0, 1, 0), (1, 0, 1)))  # the signal may come after the answer
    else:
        until(lambda: [pair.monitor(number) for number in (0, 1)] == 2 * [{"backend": "asyncio", "active_jobs": 0}])
    until(lambda: len(pair.monitor(0, "cluster")["processes"]) == 2)


def test_a_build_that_somebody_cancelled_is_not_taken_for_given_up(pair: Pair) -> None:
    job_id = pair.start()
    pair.poll(1, job_id)
    pair.await_sightings(job_id, Look(is_open=False, is_polled=True))
    pair.clients[1].post(f"/api/v1/build/{job_id}/cancel")
    audience = pair.servers[0].do(lambda site: site.app.audience())
    until(lambda: not audience._begun)
    assert [server.do(lambda site: site.app.audience()).kills for server in pair.servers] == [0, 0]
