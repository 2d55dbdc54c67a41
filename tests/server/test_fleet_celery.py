"""Celery workers execute what server processes take: clients of any server see it live, tokens included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.celery_workers import Workers, workers
from tests.rabbitmq import RabbitMQServer
from tests.server.fleet import FLOWS, Fleet, build, effects, hold, until
from tests.server.fleet_readers import Reader, Seen, check_complete, replay
from tests.valkey import ValkeyServer

pytestmark = pytest.mark.matrix


class Stage(NamedTuple):
    """Server processes, and what starts workers for them."""

    fleet: Fleet
    workers: Workers
    pool: str


@pytest.fixture(params=["redis-async", "redis-prefork", "rabbitmq-async", "rabbitmq-prefork"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, valkey_server: ValkeyServer) -> Iterator[Stage]:
    broker, _, pool = request.param.partition("-")
    given = {
        "celery_enabled": "true",
        "database_url": f"sqlite:///{tmp_path}/ledger.db",
        "lease_seconds": "5",
        "imports": FLOWS,
    }
    with ExitStack() as stack:
        if broker == "redis":
            given["redis_url"] = valkey_server.url
        else:
            rabbitmq: RabbitMQServer = request.getfixturevalue("shared_rabbitmq")
            given["broker_url"] = stack.enter_context(rabbitmq.vhost())
            given["redis_queue_url"] = valkey_server.url_of(1)
        started = stack.enter_context(workers(tmp_path / "workers.log", given))
        yield Stage(stack.enter_context(Fleet(tmp_path, given, size=2)), started, pool)


def tokens(seen: list[Seen]) -> list[str]:
    return [one.data["chunk"].partition("@")[0] for one in seen if one.event == "token"]


def pids(reader: Reader) -> set[int]:
    return {int(token.partition("@")[2]) for token in reader.tokens}


def test_tokens_of_a_worker_reach_the_clients_of_every_server(stage: Stage, tmp_path: Path) -> None:
    fleet, started, pool = stage
    worker = started.start(FLOWS, pool=pool, concurrency=1)
    held = hold(tmp_path, 2)
    job_id = fleet.build("walk", home=str(tmp_path), tokens=5)
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: len(reader.tokens) == 10)
    assert [reader.count("end") for reader in readers] == [0, 0], "they came while it ran"
    held.unlink()
    check_complete(fleet, job_id, readers)
    assert tokens(readers[0].seen) == [f"{step}.{index}" for step in (1, 2, 3, 4) for index in range(5)]
    assert readers[0].seen == readers[1].seen
    assert pids(readers[0]) <= {worker.pid, *worker.children()}
    for process in fleet.processes():
        assert replay(fleet, job_id, process) == readers[0].seen


def test_a_cancel_at_a_server_reaches_the_worker(stage: Stage, tmp_path: Path) -> None:
    fleet, started, pool = stage
    started.start(FLOWS, pool=pool, concurrency=1)
    first, other = fleet.processes()
    with fleet.client(first) as client:
        job_id = build(client, "speech", home=str(tmp_path))
    reader = Reader(fleet, job_id, first)
    reader.wait_for(lambda reader: len(reader.tokens) > 3)
    with fleet.client(other) as client:
        answer: dict[str, Any] = client.post(f"/api/v1/build/{job_id}/cancel").json()
    assert answer["success"] is True
    assert check_complete(fleet, job_id, [reader])[-1].data["status"] == "cancelled"
    (tmp_path / "enough").touch()
    again = fleet.build("walk", home=str(tmp_path))
    assert fleet.await_end(again) == "succeeded", "its slot is free again"


def test_a_worker_that_is_killed_while_it_speaks_is_followed_by_another(stage: Stage, tmp_path: Path) -> None:
    fleet, started, pool = stage
    worker = started.start(FLOWS, pool=pool, concurrency=1)
    held = hold(tmp_path, 3)
    job_id = fleet.build("walk", home=str(tmp_path))
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: len(reader.tokens) == 9)
    worker.kill()
    started.start(FLOWS, pool=pool, concurrency=1)
    until(lambda: [line[:2] for line in effects(tmp_path)].count(("began", 3)) == 2)
    held.unlink()
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    assert Counter(line[1] for line in effects(tmp_path) if line[0] == "began") == {1: 1, 2: 1, 3: 2, 4: 1}
    for reader in readers:
        assert tokens(reader.seen)[:9] == [f"{step}.{index}" for step in (1, 2, 3) for index in range(3)]
        assert tokens(reader.seen)[-6:] == [f"{step}.{index}" for step in (3, 4) for index in range(3)]


def test_a_worker_goes_on_while_redis_is_gone_and_is_heard_again_afterwards(
    stage: Stage, tmp_path: Path, valkey_server: ValkeyServer
) -> None:
    fleet, started, pool = stage
    started.start(FLOWS, pool=pool, concurrency=1)
    held = hold(tmp_path, 2)
    job_id = fleet.build("walk", home=str(tmp_path))
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 1)
    valkey_server.kill()
    held.unlink()
    check_complete(fleet, job_id, readers)
    valkey_server.start()
    speech = fleet.build("speech", home=str(tmp_path))
    again = [Reader(fleet, speech, process) for process in fleet.processes()]
    for reader in again:
        reader.wait_for(lambda reader: len(reader.tokens) > 3)
    (tmp_path / "enough").touch()
    check_complete(fleet, speech, again)
