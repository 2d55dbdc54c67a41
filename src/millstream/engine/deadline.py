"""Soft and hard time-outs of coroutines, without a cancel scope per node.

A node with a time-out arms the one timer of its runner: 0.3 us instead of the 10 us of a fresh cancel scope. When the
timer finds its time over it cancels the runner's asyncio task, and the cancellation is turned into the time-out's
exception where it comes out.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio

from millstream.clock import Clock, Timer
from millstream.errors import SoftTimeLimitExceeded, TaskTimeoutError
from millstream.graph.frame import Frame


class Deadline:
    """The one timer of a runner, and the way to cancel what it awaits. Made in the runner's own asyncio task.

    Args:
        clock: Decides when a time is over.

    Attributes:
        frame: The frame of the node that the runner awaits now.
    """

    __slots__ = ("_clock", "_due", "_fired", "_revoked", "_soft", "_task", "_timer", "_timer_due", "frame")

    def __init__(self, clock: Clock) -> None:
        """Start unarmed."""
        self._clock = clock
        self._due: float | None = None
        self._soft = False
        self._fired = False
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._task = asyncio.current_task()
        self._revoked = False
        self.frame: Frame | None = None

    @property
    def is_over(self) -> bool:
        """Whether what the runner awaits was cancelled by the time-out or by `revoke`, even if it took no notice."""
        return self._fired or self._revoked

    def revoke(self) -> None:
        """Cancel what the runner awaits now, but not the runner; once, however often it is taken back."""
        if not self._revoked and self._task is not None:
            self._revoked = True
            self._task.cancel()

    def take_revoked(self) -> bool:
        """Whether `revoke`, and nobody else, cancelled the task; takes that cancellation back."""
        if not self._revoked:
            return False
        self._revoked = False
        return self._task is not None and self._task.uncancel() == 0

    async def run(self, work: Awaitable[Any], hard: float | None, soft: float | None) -> Any:
        """Await `work` under time-outs.

        Args:
            work: A coroutine, or anything that can be awaited.
            hard: Seconds until `TaskTimeoutError`, which the work cannot answer.
            soft: Seconds until `SoftTimeLimitExceeded` is raised inside the work, once.

        Raises:
            TaskTimeoutError: The hard time-out was over before the work was.
        """
        start = self._clock.monotonic()
        end = None if hard is None else start + hard
        if soft is not None:
            self._arm(start + soft, soft=True)
            work = self._steer(_as_coroutine(work), end)
        elif end is not None:
            self._arm(end, soft=False)
        try:
            value = await work
        except BaseException as error:
            if self._take_fired():  # whatever the work made of its cancellation
                cause = None if isinstance(error, asyncio.CancelledError) else error
                raise TaskTimeoutError(f"it ran longer than its timeout of {hard:g} s") from cause
            raise
        finally:
            self._due = None
        if self._take_fired():
            raise TaskTimeoutError(f"it ran longer than its timeout of {hard:g} s")
        return value

    def close(self) -> None:
        """Take the timer back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float, *, soft: bool) -> None:
        self._due, self._soft, self._fired = due, soft, False
        if self._timer is None or due < self._timer_due:
            self.close()
            self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        self._timer_due = due
        self._timer = self._clock.call_later(max(0.0, due - self._clock.monotonic()), self._look)

    def _look(self) -> None:
        """The timer rang: fire if the time is over, else set it anew for what is armed now."""
        self._timer = None
        if self._due is None:
            return
        if self._clock.monotonic() < self._due - _EARLY_SECONDS:
            self._set_timer(self._due)
            return
        self._due = None
        self._fired = True
        if self._task is not None:
            self._task.cancel()

    def _take_fired(self) -> bool:
        """Whether the time-out, and not somebody else, cancelled the task; takes that cancellation back."""
        if not self._fired:
            return False
        self._fired = False
        task = self._task
        return task is not None and task.uncancel() == 0

    @types.coroutine
    def _steer(self, work: Coroutine[Any, Any, Any], end: float | None) -> Generator[Any, Any, Any]:
        """Run `work` step by step, so that the soft time-out can be raised inside it."""
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
            except asyncio.CancelledError as error:
                given, step = error, work.throw
                if self._soft and self._take_fired():
                    given = SoftTimeLimitExceeded("the soft time limit is over")
                    if end is not None:
                        self._arm(end, soft=False)
                    self._soft = False
            except BaseException as error:  # noqa: BLE001  it belongs to the work, GeneratorExit included
                given, step = error, work.throw


_EARLY_SECONDS = 0.0005
"""A loop's timer may ring this much before its time by the monotonic clock."""


def _as_coroutine(work: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    if asyncio.iscoroutine(work):
        return work

    async def wait() -> Any:
        return await work

    return wait()


def is_cancelled_here() -> bool:
    """Whether a cancel scope around this place is cancelled."""
    return anyio.current_effective_deadline() == -math.inf
