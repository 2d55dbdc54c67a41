"""A Celery worker with the async pool, started by Celery's own program."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from tests.celery_workers import ROOT, Worker, environment
from tests.lifeline import die_with_parent

APP = "tests.integration.pool_tasks"
POOL = "millstream.backends.celery.pool:TaskPool"
SECONDS = 120.0


class PoolWorker(Worker):
    """`celery worker -P custom` on the tasks of `pool_tasks`.

    Args:
        log: The file that it writes to.
        broker: The broker's URL.
        store: A Redis database, for results and for the notes of tasks.
        options: Further options of `celery worker`.
        pool: Its pool.
    """

    def __init__(self, log: Path, broker: str, store: str, *options: str, pool: str = "custom") -> None:
        names = {"POOL_BROKER": broker, "POOL_RESULTS": store, "POOL_NOTES": store}
        self._log = log
        with log.open("ab") as output:
            self._begin = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", APP, "worker", "-P", pool, *_OPTIONS, *options],
                env=environment({}) | names | {"CELERY_CUSTOM_WORKER_POOL": POOL},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )


_OPTIONS = ("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--heartbeat-interval", "1")


class Side:
    """The tests' side: sends tasks, reads their results and notes, asks and controls the worker.

    Args:
        worker: The worker.
        broker: The broker's URL.
        store: The Redis database for results and notes.
    """

    def __init__(self, worker: PoolWorker, broker: str, store: str) -> None:
        self.worker = worker
        self.app = Celery("tests", broker=broker, backend=store, set_as_current=False)
        self.notes = redis.Redis.from_url(store, decode_responses=True)

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a task of `pool_tasks`."""
        return self.app.send_task(task if "." in task else f"{APP}.{task}", args, **options)

    def run(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a task, and return its result."""
        return self.send(task, *args, **options).get(timeout=SECONDS)

    def sign(self, task: str, *args: Any, **options: Any) -> Any:
        """Return a signature of a task."""
        return self.app.signature(f"{APP}.{task}", args, app=self.app, **options)

    def noted(self, name: str, count: int = 1) -> list[str]:
        """Return what tasks left as word under a name, as soon as it is this much."""
        wait_for(lambda: self.notes.llen(name) >= count)
        return [str(text) for text in self.notes.lrange(name, 0, -1)]

    def go(self, name: str, times: int = 1) -> None:
        """Let tasks that wait for word under a name go on."""
        self.notes.rpush(f"{name}:go", *range(times))

    def pool(self) -> dict[str, Any]:
        """Return what `inspect stats` tells of the pool."""
        (stats,) = self.app.control.inspect(timeout=SECONDS, limit=1).stats().values()
        return dict(stats["pool"])

    def active(self) -> list[dict[str, Any]]:
        """Return what `inspect active` tells."""
        (active,) = self.app.control.inspect(timeout=SECONDS, limit=1).active().values()
        return list(active)

    def idle(self) -> bool:
        """Whether nothing runs in the pool."""
        return not any(self.pool()["running"].values())

    def close(self) -> None:
        """Close the connections."""
        let_go(self.app)
        self.notes.close()
        self.app.close()


def let_go(app: Celery) -> None:
    """Let results that are collected later have nothing to take back from a server that is gone then."""
    app.backend.result_consumer.stop()
    app.backend.result_consumer.subscribed_to.clear()


@contextmanager
def pool_worker(log: Path, broker: str, store: str, *options: str, pool: str = "custom") -> Iterator[Side]:
    """Give a worker that is ready; at the end it is killed."""
    worker = PoolWorker(log, broker, store, *options, pool=pool)
    side = Side(worker, broker, store)
    try:
        worker.wait_ready()
        yield side
    finally:
        side.close()
        worker.kill()


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds, and return what it gives."""
    until = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.01)
    return value
