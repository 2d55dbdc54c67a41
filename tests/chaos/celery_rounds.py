"""A round of chaos with Celery: workers, their children, the client and the broker are killed, stopped and emptied."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from millstream.testing.history import Died
from millstream.testing.invariants import Violation
from millstream.testing.proxy import HALF_OPEN, PASS, FaultProxy
from tests.celery_workers import Worker
from tests.chaos import children
from tests.chaos.fault_rounds import STILL_SECONDS, FaultRound
from tests.chaos.load import CLAIMER
from tests.chaos.rounds import Child, Setup
from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer

FAULTS = (
    "worker",
    "process",
    "process",
    "process",
    "process",
    "client",
    "broker",
    "pause",
    "flush",
    "half-open",
    "stop",
)
"""What happens in turn: a worker is killed with its main process, or one process that executes, the client, the broker
while work is handed in; the broker or a worker stands still for longer than its lease; the broker forgets everything;
its answers are lost on the way."""

_ORPHAN_SECONDS = 90.0
_LOOK_SECONDS = 0.005
_numbers = itertools.count(1)
_CHANGES = f"""
import os, threading
from millstream.ledger import proof
os.environ["{CLAIMER}"] = str(os.getpid())
os.register_at_fork(after_in_child=lambda: os.environ.update({CLAIMER}=str(os.getpid())))
if os.environ["{children.WITHOUT_PROOF}"]:
    proof.fcntl = None
"""


@dataclass(frozen=True, kw_only=True)
class CelerySetup(Setup):
    """How a round with Celery is played.

    Attributes:
        broker: The broker; nobody else uses it.
        pool: The pool of the workers.
    """

    broker: ValkeyServer | RabbitMQServer
    pool: Literal["prefork", "async"]

    @property
    def executor(self) -> str:
        """What executes, in a word."""
        broker = "rabbitmq" if isinstance(self.broker, RabbitMQServer) else "redis"
        return f"{broker}/{self.pool}"


class CeleryRound(FaultRound):
    """Plays one round.

    Args:
        setup: How.
    """

    def __init__(self, setup: CelerySetup) -> None:
        """Prepare; nothing is started."""
        super().__init__(setup)
        self._celery = setup
        self._workers: list[Worker] = []
        self._killed: list[Worker] = []
        self._proxy = FaultProxy(setup.broker.port)

    # ------------------------------------------------------------------------------------------------- processes
    def _run(self) -> None:
        with self._proxy:
            try:
                self._kill_until_enough()
                self._do_what_is_due(at_once=True)
                self._drain()
                self._end_workers()
            finally:
                for worker in (*self._workers, *self._killed):
                    worker.kill()

    def _faults(self) -> Sequence[str]:
        left_out = {"flush"} if isinstance(self._celery.broker, RabbitMQServer) else set[str]()
        return [fault for fault in FAULTS if fault not in left_out]

    def _settings(self) -> dict[str, str]:
        broker = self._celery.broker.url.replace(f":{self._celery.broker.port}", f":{self._proxy.port}")
        return {"celery_enabled": "true", "broker_url": broker, "worker_concurrency": "2"}

    def _fill(self, *, is_armed: bool) -> None:  # noqa: ARG002  what dies here is killed from outside
        """Replace who is missing."""
        if not any(child.kind == "client" for child in self._children):
            celery = {f"MILLSTREAM_{name.upper()}": value for name, value in self._settings().items()}
            pid = self._fork(partial(self._submit, celery), None)
            self._children.append(Child("client", pid, "", time.monotonic()))
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            self._outcome.violations.append(Violation("I2", "", f"{worker} ended by itself: {worker.said[-500:]}"))
        while len(self._workers) < self._setup.workers:
            self._workers.append(self._new_worker())

    def _submit(self, variables: dict[str, str]) -> None:
        os.closerange(3, 256)  # else this fork would keep connections open that the proxy closes
        os.environ.update(variables)
        children.submit(self._plan)

    def _new_worker(self) -> Worker:
        setup = self._celery
        variables = children.environment(setup.url, setup.home, setup.lease, has_proof=setup.has_proof)
        mine = "MILLSTREAM_"
        settings = {
            name.removeprefix(mine).lower(): value for name, value in variables.items() if name.startswith(mine)
        }
        others = {name: value for name, value in variables.items() if not name.startswith(mine)}
        changes = [f"import os; os.environ.update({others!r})", _CHANGES]
        path = setup.home / "workers"
        return Worker(children.FLOWS, path, settings | self._settings(), pool=setup.pool, changes=changes)

    # ------------------------------------------------------------------------------------------------------ faults
    def _happens(self, fault: str) -> bool:
        """Let something happen, once a node runs."""
        busy = [
            (worker, pid) for worker in self._workers for pid in self._executing(worker) if self._effects.is_busy(pid)
        ]
        if not busy:
            return False
        worker, pid = self._chance.choice(busy)
        match fault:
            case "process" if pid != worker.pid:
                self._kill_process(pid)
            case "process" | "worker":
                self._kill_worker(worker)
            case "client":
                self._kill_client()
            case "broker":
                self._celery.broker.kill()
                self._celery.broker.start()
                self._count("broker", is_busy=True)
            case "pause":
                self._celery.broker.pause()
                self._at(STILL_SECONDS, self._celery.broker.resume)
            case "flush":
                assert isinstance(self._celery.broker, ValkeyServer)
                self._celery.broker.resume()
                self._celery.broker.flush()
            case "half-open":
                self._proxy.behave(HALF_OPEN)
                self._at(STILL_SECONDS, lambda: self._proxy.behave(PASS))
            case "stop":
                worker.pause()
                self._at(self._setup.lease + STILL_SECONDS, worker.resume)
        return True

    def _executing(self, worker: Worker) -> list[int]:
        return worker.children() if self._celery.pool == "prefork" else [worker.pid]

    def _kill_process(self, pid: int) -> None:
        self._deaths.put(Died(pid=pid))
        os.kill(pid, signal.SIGKILL)
        self._count(f"process of {self._celery.pool}", is_busy=True)

    def _kill_worker(self, worker: Worker) -> None:
        """Kill the main process only; its children see to themselves."""
        if self._celery.pool == "async":
            self._deaths.put(Died(pid=worker.pid))
        self._workers.remove(worker)
        worker.send(signal.SIGKILL)
        worker.wait()
        self._count(f"worker of {self._celery.pool}", is_busy=True)
        self._killed.append(worker)

    def _kill_client(self) -> None:
        for child in [child for child in self._children if child.kind == "client"]:
            self._children.remove(child)
            self._deaths.put(Died(pid=child.pid))
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            self._count("client", is_busy=True)

    # ----------------------------------------------------------------------------------------------------- the end
    def _end_workers(self) -> None:
        """End the workers in order; no process outlives its worker, whichever way that ended."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        until = time.monotonic() + _ORPHAN_SECONDS
        for worker in (*self._workers, *self._killed):
            while (left := worker.session()) and time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
            if left:
                what = f"{left} outlived their worker {worker.pid}"
                self._outcome.violations.append(Violation("I15", "", what))


def new_worker(variables: dict[str, str], settings: dict[str, str], log: Path, pool: str, *changes: str) -> Worker:
    """Start a worker whose processes tell the effect log who they are.

    Args:
        variables: Those of a child, see `children.environment`.
        settings: The settings of Celery.
        log: What it writes to.
        pool: Its pool.
        changes: Parts of the program that are replaced in it.
    """
    first = f"import os; os.environ.update({variables!r})"
    name = f"worker-{next(_numbers)}@%h"  # RabbitMQ refuses a second worker of one name
    return Worker(children.FLOWS, log, settings, pool=pool, options=("-n", name), changes=[first, _CHANGES, *changes])
