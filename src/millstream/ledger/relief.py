"""Lets a busy event loop make room for the threads that work for it."""

from __future__ import annotations

import asyncio
import time
from contextvars import Context

_TICK_SECONDS = 0.001
_RARE_SECONDS = 0.008
_NAP_SECONDS = 0.00007
_BUSY = 0.5


class Relief:
    """Naps for a moment each millisecond while something is outstanding and the loop is busy.

    A loop whose turns are short and never block takes the interpreter's lock back each time it is released: commits
    took seconds beside one. A nap of 70 us lets the other thread run on to its next pause. Where the loop is not busy
    it looks less and less often whether it has become so: each look takes the lock from the thread.

    All its methods are called on the loop.
    """

    __slots__ = ("_cpu", "_is_ticking", "_outstanding", "_pause", "_wall")

    def __init__(self) -> None:
        """Start with nothing outstanding."""
        self._outstanding = 0
        self._is_ticking = False
        self._cpu = self._wall = 0.0
        self._pause = _TICK_SECONDS

    def begin(self, count: int) -> None:
        """Take note that so many items were handed to the thread."""
        self._outstanding += count
        if not self._is_ticking:
            self._is_ticking = True
            self._cpu, self._wall = time.thread_time(), time.perf_counter()
            self._pause = _TICK_SECONDS
            asyncio.get_running_loop().call_later(self._pause, self._tick, context=Context())

    def end(self, count: int) -> None:
        """Take note that so many have come back."""
        self._outstanding -= count

    def _tick(self) -> None:
        if not self._outstanding:
            self._is_ticking = False
            return
        cpu, wall = time.thread_time(), time.perf_counter()
        if cpu - self._cpu > _BUSY * (wall - self._wall):
            time.sleep(_NAP_SECONDS)
            self._pause = _TICK_SECONDS
        else:
            self._pause = min(2 * self._pause, _RARE_SECONDS)
        self._cpu, self._wall = time.thread_time(), time.perf_counter()
        asyncio.get_running_loop().call_later(self._pause, self._tick)
