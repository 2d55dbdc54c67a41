"""The monitor with Redis: its 17 figures, each moved from where it rests, and those of the whole fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.events.redis.keys import Keys
from millstream.settings import Settings
from tests.server.building import AT_REST, another, start, streamed, until
from tests.server.running import PASSWORD, RunningServer, signed_in
from tests.valkey import ValkeyServer


class Watched:
    """A server with its monitor, and the Redis that it uses."""

    def __init__(self, server: RunningServer, client: httpx.Client, valkey: ValkeyServer) -> None:
        self.server, self.client, self.valkey = server, client, valkey
        self.keys = Keys(server.do(lambda site: site.app.identity()).id)
        self._before: dict[str, int] = {}

    def begin(self) -> None:
        """Wait until nothing happens, and count from here."""
        until(lambda: self.monitor() | {"cancel_stats": None} == AT_REST | {"cancel_stats": None})
        self._before = self.stats()

    def monitor(self, scope: str = "process") -> dict[str, Any]:
        answer = self.client.get("/api/v1/monitor/job_queue", params={"scope": scope})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self.monitor()["cancel_stats"]
        return found

    def await_stat(self, name: str, least: int = 1) -> None:
        """Wait until a figure has grown by so much in this test."""
        until(lambda: self.stats()[name] >= self._before[name] + least)

    def start(self) -> str:
        """Begin a build, and wait until it runs."""
        job_id = start(self.client, "endless")
        until(lambda: self.monitor()["active_jobs"] == 1)
        return job_id

    def cancel(self, job_id: str) -> None:
        assert self.client.post(f"/api/v1/build/{job_id}/cancel").status_code == 200

    def state(self, job_id: str) -> str:
        state: str = self.client.get(f"/api/v1/jobs/{job_id}").json()["state"]
        return state

    def poll(self, job_id: str) -> None:
        url = f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0"
        assert self.client.get(url).status_code == 200


def settings(directory: Path, valkey: ValkeyServer) -> Settings:
    return Settings.of(
        config_dir=directory,
        superuser="admin",
        superuser_password=PASSWORD,
        auto_login=False,
        drain_grace=0.5,
        imports="tests.server.build_flows",
        job_queue_type="redis",
        redis_queue_url=valkey.url_of(1),
        disconnect_grace=1.0,
        redis_queue_polling_stale_threshold_s=1.0,
        redis_queue_polling_watchdog_interval_s=0.2,
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers of this module have their ledger."""
    return tmp_path_factory.mktemp("monitor")


@pytest.fixture(scope="module")
def running(directory: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer())
        server = stack.enter_context(RunningServer(settings(directory, valkey)))
        found = Watched(server, stack.enter_context(closing(signed_in(server, "admin"))), valkey)
        until(lambda: found.monitor() == AT_REST)
        yield found


@pytest.fixture
def watched(running: Watched) -> Watched:
    running.begin()
    return running


def test_the_figures_are_told_in_the_order_of_the_page(watched: Watched) -> None:
    assert list(watched.monitor()) == list(AT_REST)
    assert list(watched.stats()) == list(AT_REST["cancel_stats"])


def test_it_counts_what_runs_what_is_read_and_which_cancels_went_around(watched: Watched, directory: Path) -> None:
    job_id = start(watched.client, "endless")
    with another(watched.client) as client:
        stream = streamed(client, job_id)
        next(stream)
        one_each = dict.fromkeys(("active_jobs", "bridge_count", "consumer_wrapper_count"), 1)
        until(lambda: watched.monitor() | one_each == watched.monitor())
        with ExitStack() as stack:
            other = stack.enter_context(RunningServer(settings(directory, watched.valkey)))
            second = Watched(other, stack.enter_context(closing(signed_in(other, "admin"))), watched.valkey)
            until(lambda: second.monitor()["cancel_dispatcher_running"])
            second.cancel(job_id)
            watched.await_stat("dispatched_owned")
            until(lambda: (second.stats()["published"], second.stats()["dispatched_foreign"]) == (1, 1))
            until(lambda: len(watched.monitor("cluster")["processes"]) == 2)
            fleet = watched.monitor("cluster")
            assert [*fleet] == [*AT_REST, "processes"]
            assert [*fleet["processes"][0]] == ["id", "host", "pid", *AT_REST]
            before = watched.stats()["dispatched_foreign"]
            until(lambda: watched.monitor("cluster")["cancel_stats"]["dispatched_foreign"] == before + 1)
        stream.close()
    until(lambda: len(watched.monitor("cluster")["processes"]) == 1)
    until(lambda: watched.monitor() | {"cancel_stats": None} == AT_REST | {"cancel_stats": None})


def test_a_signal_that_was_missed_is_found_by_its_marker_after_a_reconnection(watched: Watched) -> None:
    job_id = watched.start()
    with watched.valkey.client(1) as redis:
        redis.set(watched.keys.cancel_marker(job_id), 1, ex=60)
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    watched.await_stat("dispatcher_reconnects")
    watched.await_stat("marker_hit")
    until(lambda: watched.monitor()["active_jobs"] == 0)


def test_what_is_no_signal_is_counted_and_the_next_one_is_heard(watched: Watched) -> None:
    job_id = watched.start()
    with watched.valkey.client(1) as redis:
        for message in (b"", b"\xff\x00", b"hello", b"0" * 100_000):
            redis.publish(watched.keys.cancels, message)
    watched.await_stat("dispatcher_internal_errors", 4)
    watched.cancel(job_id)
    watched.await_stat("dispatched_owned")


def test_a_heartbeat_that_is_none_is_counted_and_keeps_a_build_alive(watched: Watched) -> None:
    kept, left = start(watched.client, "endless"), start(watched.client, "endless")
    with watched.valkey.client(1) as redis:
        redis.hset(watched.keys.activity(kept), "somebody", "nonsense")
        watched.poll(kept)
        watched.poll(left)
        watched.await_stat("polling_watchdog_kills")
        watched.await_stat("activity_parse_errors")
        until(lambda: watched.state(left) == "cancelled")
        assert watched.state(kept) == "running"
        redis.delete(watched.keys.activity(kept))
    watched.await_stat("polling_watchdog_kills", 2)


def test_while_redis_is_away_nothing_is_given_up_and_cancels_are_true(watched: Watched) -> None:
    job_id, polled = start(watched.client, "endless"), start(watched.client, "endless")
    watched.valkey.pause()
    with another(watched.client) as client:
        stream = streamed(client, job_id)
        next(stream)
        watched.poll(polled)
        watched.cancel(job_id)
        until(lambda: watched.monitor()["background_task_count"] >= 1)
        watched.valkey.kill()  # where it stands: it answers nothing any more
        until(lambda: not watched.monitor()["cancel_dispatcher_running"])
        held = start(watched.client, "endless")
        other = streamed(client, held)
        next(other)
        for name in ("publish_errors", "activity_touch_errors", "activity_get_errors"):
            watched.await_stat(name)
        watched.await_stat("activity_get_errors", 15)  # three seconds, in which nobody polled
        assert watched.monitor()["active_jobs"] == 2
        assert [one["active_jobs"] for one in watched.monitor("cluster")["processes"]] == [2], "by the ledger"
        watched.valkey.start()
        watched.await_stat("polling_watchdog_kills")
        until(lambda: watched.monitor()["active_jobs"] == 1)
        stream.close()
        other.close()
    until(lambda: watched.monitor()["active_jobs"] == 0)
