"""millstream on Celery workers: who is measured submits and awaits, and workers execute."""

from __future__ import annotations

import atexit
import os
import shutil
from contextlib import ExitStack
from typing import ClassVar

import millstream
from benchmarks import worker_tasks
from benchmarks.ours import OnPostgres, OnSqlite, Ours
from benchmarks.places import new_directory
from benchmarks.scenes import Kit
from tests.celery_workers import Worker


class OnWorkers:
    """One worker with the async pool, as `millstream worker` has it; its ledger is on SQLite."""

    title = "millstream, SQLite"
    notes: ClassVar[dict[str, str]] = {}
    where: Ours = OnSqlite()
    pool = "async"
    concurrency: int | None = None
    workers = 1
    slots = 0

    def begin(self, broker: str, results: str) -> Kit:  # noqa: ARG002  they are in the ledger
        """Start the workers, on a broker that no other system uses."""
        stack = ExitStack()
        database = stack.enter_context(self.where.settings()).effective_database_url
        atexit.register(stack.close)  # after what a server has registered, so before its end
        self._settings = {"celery_enabled": "true", "broker_url": broker, "database_url": database}
        os.environ |= {f"MILLSTREAM_{name.upper()}": value for name, value in self._settings.items()}
        self._directory = new_directory()
        stack.callback(shutil.rmtree, self._directory)
        self._running: list[Worker] = []
        stack.callback(self._stop)
        self._start()
        for worker in self._running:
            worker.wait_ready()
        return Kit(
            library=millstream,
            step=worker_tasks.step,
            pure=worker_tasks.pure,
            native=worker_tasks.native,
            total=worker_tasks.total,
            wait=worker_tasks.wait,
            waits=1000,
            burn=worker_tasks.burn,
            holds={"here": worker_tasks.hold, "process": worker_tasks.hold_process},
            slots=self.slots,
            stop=self._stop,
            start=self._start,
        )

    def _start(self) -> None:
        for number in range(self.workers):
            log = self._directory / f"{number}.log"
            self._running.append(
                Worker("benchmarks.worker_tasks", log, self._settings, pool=self.pool, concurrency=self.concurrency)
            )

    def _stop(self) -> None:
        while self._running:
            self._running.pop().kill()


class OnPrefork(OnWorkers):
    """One worker with two pool processes."""

    title = "millstream, SQLite, prefork 2"
    pool = "prefork"
    concurrency = 2
    slots = 2


class OnPair(OnWorkers):
    """Two workers with the async pool."""

    title = "millstream, SQLite, 2 workers"
    workers = 2


class OnWorkersPostgres(OnWorkers):
    """One worker with the async pool; its ledger is on PostgreSQL."""

    title = "millstream, PostgreSQL"
    where = OnPostgres()
