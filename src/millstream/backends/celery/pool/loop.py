"""Coroutines of tasks on the pool's loop."""

from __future__ import annotations

import asyncio
import types
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, NamedTuple

from celery.exceptions import SoftTimeLimitExceeded

from millstream.backends.celery.pool.job import Dropped, Job


class Outcome(NamedTuple):
    """How a coroutine ended: what it raised, or what it returned."""

    error: BaseException | None
    value: Any = None


class Body:
    """A task's coroutine on the loop.

    Args:
        job: Whose it is.
        coroutine: What the task's function returned.
        ended: Gets the outcome, on the loop.
    """

    __slots__ = ("_coroutine", "_ended", "_interrupted", "_job", "_task")

    def __init__(self, job: Job, coroutine: Coroutine[Any, Any, Any], ended: Callable[[Outcome], None]) -> None:
        """Take it; `start` follows."""
        self._job = job
        self._coroutine = coroutine
        self._ended = ended
        self._interrupted = False
        self._task: asyncio.Task[Outcome] | None = None
        job.body = self

    def start(self, context: Context) -> None:
        """Start it under these context variables."""
        if self._job.is_dropped:
            self._coroutine.close()
            self._ended(Outcome(Dropped()))
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._job.task.name, context=context)
        self._task.add_done_callback(self._done)
        self._job.pool.work.watch(self._job)

    def cancel(self) -> None:
        """Raise `CancelledError` inside it."""
        if self._task is not None:
            self._task.cancel()

    def interrupt(self) -> None:
        """Raise `SoftTimeLimitExceeded` inside it."""
        if self._task is not None and not self._task.done():
            self._interrupted = True
            self._task.cancel()

    async def _run(self) -> Outcome:
        try:
            return Outcome(None, await self._steer())
        except BaseException as error:  # noqa: BLE001  SystemExit would end the loop, GeneratorExit is not ours
            return Outcome(error)

    @types.coroutine
    def _steer(self) -> Generator[Any, Any, Any]:
        """Run the coroutine step by step, so that the soft time limit can be raised inside it."""
        work = self._coroutine
        step: Callable[[Any], Any] = work.send
        given: Any = None
        while True:
            try:
                wanted = step(given)
            except StopIteration as stop:
                return stop.value
            try:
                given = yield wanted
                step = work.send
            except BaseException as error:  # noqa: BLE001  it belongs to the coroutine
                given, step = self._instead_of(error), work.throw

    def _instead_of(self, error: BaseException) -> BaseException:
        """Return what the coroutine is to get in place of a cancellation by `interrupt`."""
        if not self._interrupted or not isinstance(error, CancelledError):
            return error
        self._interrupted = False
        if self._job.is_dropped or self._task is None:
            return error
        self._task.uncancel()
        soft: BaseException = SoftTimeLimitExceeded(self._job.limits[0])
        return soft

    def _done(self, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():  # before its first step
            self._coroutine.close()
            self._ended(Outcome(CancelledError()))
        else:
            self._ended(task.result())
