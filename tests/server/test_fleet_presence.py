"""Builds that are looked at in several server processes, which are killed with their readers, or with what they run."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from tests.integration.workers import DEAF
from tests.server.building import streamed
from tests.server.fleet import Fleet, ServerProcess, until

GRACE_SECONDS = 1.0
PROMISED_CANCEL = 2.0


@pytest.fixture(scope="module")
def fleet_settings() -> dict[str, str]:
    return {
        "disconnect_grace": str(GRACE_SECONDS),
        "redis_queue_polling_watchdog_interval_s": "0.5",
        "drain_grace": "1",
    }


@contextmanager
def reading(fleet: Fleet, process: ServerProcess, job_id: str) -> Generator[None]:
    """Read a build at a process, from the first event on, once the others are told."""
    with fleet.client(process) as client:
        stream = streamed(client, job_id)
        next(stream)
        until(lambda: is_read(fleet, job_id), fleet.said)
        yield
        stream.close()


def is_read(fleet: Fleet, job_id: str) -> bool:
    """Whether processes know of a reader of a build, wherever it is."""
    url = fleet.settings.get("redis_queue_url")
    if url is None:
        return bool(fleet.witness.rows(f"SELECT 1 FROM millstream_activity WHERE job = '{job_id}' AND is_open"))  # noqa: S608  ours
    with redis.Redis.from_url(url) as client:
        beats = [beat for key in client.scan_iter(f"*{job_id}:activity") for beat in client.hvals(key)]
    return any(beat.startswith(b"open") for beat in beats)


def test_a_build_whose_readers_ended_with_their_process_is_cancelled(fleet: Fleet, tmp_path: Path) -> None:
    job_id, unread = fleet.build("speech", home=str(tmp_path)), fleet.build("speech", home=str(tmp_path))
    (other, *_) = fleet.others(fleet.holder(job_id), fleet.holder(unread))
    with ExitStack() as stack:
        stack.enter_context(reading(fleet, other, job_id))
        stack.pop_all()  # its connections break with the process
        other.kill()
    assert fleet.await_end(job_id) == "cancelled"
    assert fleet.state(unread) == "running"
    (tmp_path / "enough").touch()
    assert fleet.await_end(unread) == "succeeded"


@pytest.mark.matrix
def test_a_build_that_was_taken_over_is_still_cancelled_when_nobody_looks(fleet: Fleet, tmp_path: Path) -> None:
    job_id = fleet.build("speech", home=str(tmp_path))
    first = fleet.holder(job_id)
    with reading(fleet, fleet.others(first)[0], job_id):
        first.kill()
        until(lambda: fleet.holder(job_id).pid != first.pid, fleet.said)
        time.sleep(3 * GRACE_SECONDS)  # that nothing happens shows after a time only
        assert fleet.state(job_id) == "running"
    assert fleet.await_end(job_id) == "cancelled"


@pytest.mark.matrix
def test_a_build_that_is_read_again_at_another_process_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    job_id = fleet.build("speech", home=str(tmp_path))
    first, second, *_ = fleet.processes()
    with reading(fleet, first, job_id):
        pass
    with reading(fleet, second, job_id):
        time.sleep(3 * GRACE_SECONDS)  # as above
        assert fleet.state(job_id) == "running"
    assert fleet.await_end(job_id) == "cancelled"


@pytest.mark.matrix
def test_a_cancel_reaches_a_process_that_hears_nothing(fleet: Fleet, tmp_path: Path) -> None:
    (at, *_) = fleet.processes()
    with fleet.another({"redis_queue_cancel_channel_enabled": "false"}, (DEAF,)) as deaf:
        job_id = fleet.build("speech", deaf, home=str(tmp_path))
        assert fleet.holder(job_id).pid == deaf.pid
        begun = time.monotonic()
        with fleet.client(at) as client:
            answer = client.post(f"/api/v1/build/{job_id}/cancel")
        assert answer.status_code == 200
        assert fleet.await_end(job_id) == "cancelled"
        assert time.monotonic() - begun < 5 * PROMISED_CANCEL
