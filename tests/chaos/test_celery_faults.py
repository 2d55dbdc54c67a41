"""What can go wrong with Celery workers and their broker, one thing at a time: nothing is lost, nothing done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream import Job, JobState, Millstream
from millstream.errors import WorkflowServiceUnavailableError
from millstream.execution import cancel
from millstream.testing.history import Began, ObservationLog
from tests.celery_workers import Worker
from tests.chaos import children
from tests.chaos.celery_rounds import new_worker
from tests.chaos.stage import Stage
from tests.lifeline import await_end, stop_between_writes
from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer

LEASE = 3.0
"""Long enough that a worker on a busy machine loses nothing by being late."""

DEAF = "import millstream.ledger.bell as bell; bell.SocketBell.ring = lambda self, *_, **__: None"


class CeleryStage(Stage):
    """A ledger in a file, a broker, and the workers that a test lets work on them."""

    def __init__(self, home: Path, broker: str, **settings: object) -> None:
        super().__init__(f"sqlite:///{home}/ledger.db", home, lease=LEASE)
        self.home = home
        self._celery = {"celery_enabled": "true", "broker_url": broker, "worker_concurrency": "2"}
        self.settings = self.settings.model_copy(update={"celery_enabled": True, "broker_url": broker, **settings})
        self.workers: list[Worker] = []

    def work(self, pool: str, *changes: str) -> Worker:
        """Start a worker, and wait until it is ready."""
        variables = children.environment(f"sqlite:///{self.home}/ledger.db", self.home, LEASE, has_proof=False)
        worker = new_worker(variables, self._celery, self.home / "said", pool, *changes)
        self.workers.append(worker)
        return worker.wait_ready()

    def begun(self) -> list[Began]:
        """Return the effects that were begun."""
        return [one for one in ObservationLog(self.home / "effects").read() if isinstance(one, Began)]

    async def until_begun(self, node: str, times: int = 1) -> Began:
        """Wait until a node's effect has been begun so many times, and return the last."""

        def those() -> list[Began]:
            return [one for one in self.begun() if one.node == node]

        await self.until(lambda: len(those()) >= times, f"{node} was not begun")
        return those()[-1]

    def close(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.kill()


@pytest.fixture
def stage(tmp_path: Path, valkey_url: str) -> Iterator[CeleryStage]:
    """A new ledger, and a broker that stays."""
    stage = CeleryStage(tmp_path, valkey_url)
    yield stage
    stage.close()


@pytest.mark.parametrize("pool", ["prefork", "async"])
async def test_what_a_killed_celery_worker_ran_another_goes_on_with(stage: CeleryStage, pool: str) -> None:
    async with stage.client() as app:
        stage.witness.install()
        stage.work(pool)
        held = stage.hold()
        job = await app.submit("gated")
        begun = await stage.until_begun("held")
        os.kill(begun.pid, signal.SIGKILL)
        await_end(begun.pid)
        held.unlink()
        if pool == "async":
            stage.work(pool)
        assert await job.wait() is JobState.SUCCEEDED
    assert Counter(one.node for one in stage.begun()) == {"step": 1, "held": 2, "step-2": 1}


async def test_a_celery_worker_that_stood_still_records_nothing_when_it_goes_on(stage: CeleryStage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        zombie = stage.work("async")
        held = stage.hold()
        job = await app.submit("gated")
        await stage.until_begun("held")
        stop_between_writes(stage.home / "ledger.db", *zombie.session())
        other = stage.work("async")
        held.unlink()
        result = await job.result()
        zombie.resume()
        await stage.until(lambda: zombie.pid in stage.witness.members(), "the zombie did not come back")
        assert await job.result() == result
    assert [claim.pid for claim in stage.witness.claims() if claim.job == job.id] == [zombie.pid, other.pid]


@pytest.mark.parametrize("pool", ["prefork", "async"])
async def test_a_cancel_reaches_a_celery_worker_that_hears_nothing(
    tmp_path: Path, valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    stage = CeleryStage(tmp_path, valkey_server.url)
    try:
        async with stage.client() as app:
            stage.work(pool, DEAF)
            job = await app.submit("slow")
            await stage.until_begun("step")
            valkey_server.kill()
            monkeypatch.setattr(cancel, "ANSWER_SECONDS", 20.0)  # ten times what is promised
            assert await job.cancel() is JobState.CANCELLED
    finally:
        stage.close()


async def test_a_node_that_kills_its_pool_processes_fails_and_its_neighbours_end_well(stage: CeleryStage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        stage.work("prefork")
        poison = await app.submit("poisoned")
        innocents = [await app.submit("chain", length=2) for _ in range(50)]
        assert await poison.wait() is JobState.FAILED
        assert (await poison.record()).reason == "poison"
        for job in innocents:
            assert await job.wait() is JobState.SUCCEEDED


async def test_while_a_redis_broker_is_full_or_away_submits_are_taken_and_run_later(
    tmp_path: Path, valkey_server: ValkeyServer
) -> None:
    stage = CeleryStage(tmp_path, valkey_server.url, outbox_limit=8)
    try:
        async with stage.client() as app:
            valkey_server.fill()
            full = [await app.submit("chain", length=2) for _ in range(3)]
            valkey_server.kill()
            away = [await app.submit("chain", length=2) for _ in range(3)]
            with pytest.raises(WorkflowServiceUnavailableError):
                await submit_many(app, away)
            valkey_server.start()
            stage.work("async")
            for job in (*full, *away):
                assert await job.wait() is JobState.SUCCEEDED
    finally:
        stage.close()


@pytest.mark.matrix  # RabbitMQ takes its time to start
async def test_while_rabbitmq_is_blocked_submits_are_taken_and_run_later(
    tmp_path: Path, rabbitmq_server: RabbitMQServer
) -> None:
    stage = CeleryStage(tmp_path, rabbitmq_server.url)
    try:
        async with stage.client() as app:
            rabbitmq_server.raise_alarm()
            jobs = [await app.submit("chain", length=2) for _ in range(5)]
            rabbitmq_server.end_alarm()
            stage.work("prefork")
            for job in jobs:
                assert await job.wait() is JobState.SUCCEEDED
    finally:
        stage.close()


async def submit_many(app: Millstream, jobs: list[Job]) -> None:
    """Hand in jobs until that is refused."""
    for _ in range(20):
        jobs.append(await app.submit("chain", length=2))
        await asyncio.sleep(0.2)  # in which it becomes known that the broker is away
