"""The process behind `crash_sweep`: it imports the flow once, and forks a child for each run that is to be killed."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

import millstream.ledger.sql  # noqa: F401  loaded once, before the forks
from millstream import points
from millstream.app import Millstream
from millstream.authoring.task import Task
from millstream.engine.context import ctx
from millstream.model.event import Event
from millstream.model.job import Decision
from millstream.settings import Settings
from millstream.testing.crash import Armed, Crash
from millstream.testing.history import digest
from millstream.testing.sweep import Order, Sweep, Try

_RUN_SECONDS = 120.0
_KEY = "sweep"
_is_inside: ContextVar[bool] = ContextVar("_is_inside", default=False)


class Told(NamedTuple):
    """What a run that came to its end tells.

    Attributes:
        state: The job's final state.
        result: What it returned.
        error: What failed it, in a line.
        values: What each of its nodes returned.
        once: The nodes that must run only once.
        jobs: How many jobs there are in the ledger.
        reached: How often each crash point was reached.
    """

    state: str
    result: Any
    error: str
    values: dict[str, Any]
    once: set[str]
    jobs: int
    reached: Counter[str]


class Sweeper:
    """Sweeps one flow.

    Args:
        order: Which, and within which bounds.
    """

    def __init__(self, order: Order) -> None:
        """Import the flow, and count the calls of all tasks."""
        self._order = order
        self._home = Path(order.directory)
        self._number = 0
        self._place = self._home
        self._values: dict[str, Any] = {}
        sys.path[:] = order.path
        importlib.import_module(order.module)
        for module in list(sys.modules.values()):
            for value in list(vars(module).values()):
                if isinstance(value, Task):
                    value.fn = self._counted(value.fn)

    def sweep(self) -> Sweep:
        """Run undisturbed, and then with a kill at each chosen place."""
        self._begin()
        first = self._finished(self._fork(None))
        if first is None:
            raise RuntimeError("the flow did not end although nobody killed it")
        self._values = first.values
        chosen = list(_chosen(first.reached, self._order.per_point))
        tries: list[Try] = []
        end = time.monotonic() + self._order.seconds
        while len(tries) < len(chosen) and time.monotonic() < end:
            tries.append(self._try(chosen[len(tries)], first))
        return Sweep(self._order.flow, repr(first.result), dict(first.reached), tuple(tries), len(chosen) - len(tries))

    def _try(self, crash: Crash, first: Told) -> Try:
        self._begin()
        _, status = os.waitpid(self._fork(crash), 0)
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        told = self._finished(self._fork(None))
        return Try(crash.point, crash.nth, is_killed, "it did not end" if told is None else self._problem(told, first))

    def _problem(self, told: Told, first: Told) -> str | None:
        starts = self._starts()
        twice = sorted(node for node in first.once | told.once if starts[node] > 1)
        if told.jobs != 1:
            return f"there are {told.jobs} jobs, where one was submitted"
        if twice:
            return f"{', '.join(twice)} ran twice, and must run only once"
        if (told.state, digest(told.result)) != (first.state, digest(first.result)):
            return f"it {told.state} with {told.error or repr(told.result)}"
        return None

    # --------------------------------------------------------------------------------------------------- processes
    def _begin(self) -> None:
        """Take a new place for the next ledger."""
        if self._place != self._home:
            shutil.rmtree(self._place)
        self._number += 1
        self._place = self._home / str(self._number)
        self._place.mkdir()

    def _fork(self, crash: Crash | None) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            armed = Armed(*([crash] if crash else []))
            points.arm(armed)
            told = asyncio.run(self._live(armed))
            self._told.write_bytes(pickle.dumps(told))
            code = 0
        except BaseException:  # noqa: BLE001  a fork must not go on with its parent's work
            traceback.print_exc()
        finally:
            os._exit(code)

    def _finished(self, pid: int) -> Told | None:
        os.waitpid(pid, 0)
        if not self._told.exists():
            return None
        told: Told = pickle.loads(self._told.read_bytes())  # noqa: S301  our own child wrote it
        return told

    @property
    def _told(self) -> Path:
        return self._place / "told"

    async def _live(self, armed: Armed) -> Told:
        """Submit the flow, unless a former process did, and bring it to its end."""
        order = self._order
        settings = Settings(database_url=f"sqlite:///{self._place}/ledger.db", durability="full")
        async with Millstream(settings=settings, imports=[order.module]) as app:
            with anyio.fail_after(_RUN_SECONDS):
                job = await app.submit(order.flow, idempotency_key=_KEY, **order.inputs)
                events = []
                async for event in job.events():
                    events.append(event)
                    match event:
                        case Event(type="waiting", node=str(node), data={"reason": "decision"}):
                            await job.approve(node, Decision("done", self._values.get(node)))
            record = await job.record()
            values = {node.path: node.value for node in await job.nodes()}
            once = {event.node for event in events if event.type == "node_started" and event.is_durable and event.node}
            jobs = len(await app.jobs())
        error = f"{record.error.short_type}: {record.error.message}" if record.error else ""
        return Told(record.state.value, record.result, error, values, once, jobs, armed.reached)

    # ------------------------------------------------------------------------------------------------- counted calls
    def _counted(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that notes each of its calls before it makes it."""

        @wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._noted():
                return fn(*args, **kwargs)

        @wraps(fn)
        async def call_coroutine(*args: Any, **kwargs: Any) -> Any:
            with self._noted():
                return await fn(*args, **kwargs)

        return call_coroutine if inspect.iscoroutinefunction(fn) else call

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note that a node's task starts; what the task calls itself is not another start."""
        if _is_inside.get():
            yield
            return
        descriptor = os.open(self._place / "starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{ctx.node}\n".encode())
        os.close(descriptor)
        former = _is_inside.set(True)
        try:
            yield
        finally:
            _is_inside.reset(former)

    def _starts(self) -> Counter[str]:
        path = self._place / "starts"
        return Counter(path.read_text(encoding="utf-8").splitlines() if path.exists() else ())


def _chosen(reached: Counter[str], per_point: int) -> Iterator[Crash]:
    """Yield the kills: of each point the first and the last time, and times in between."""
    for point, times in sorted(reached.items()):
        for nth in _spread(times, per_point):
            yield Crash(point, nth, "kill")


def _spread(times: int, count: int) -> Sequence[int]:
    """Return at most so many numbers from 1 to `times`, evenly, with both ends.

    >>> _spread(9, 3)
    [1, 5, 9]
    """
    if times <= count:
        return range(1, times + 1)
    return [1 + round(number * (times - 1) / (count - 1)) for number in range(count)]


if __name__ == "__main__":
    order = Order(*pickle.load(sys.stdin.buffer))  # noqa: S301  from the process that started this one
    report = msgspec.json.encode(Sweeper(order).sweep())
    (Path(order.directory) / "report").write_bytes(report)
