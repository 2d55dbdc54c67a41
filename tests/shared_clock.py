"""A clock that a test moves for all processes that go by it: the virtual clock, in a file that they share."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta
from math import ceil, inf
from pathlib import Path
from typing import Any, TypeVar

from millstream.clock import Timer, in_background
from millstream.testing.clock import Hold, VirtualClock, _is_in_background, _is_timer_near

T = TypeVar("T")

_POLL_SECONDS = 0.002
_PATIENT_POLL_SECONDS = 0.02
_QUIET_LOOKS = 15
"""So often each process has found nothing to do before the clock is moved: what is on its way has arrived by then. It
is about 0.03 s, and more on a machine that is busy."""

_BACKLOG_LOOKS = 400
"""So often each process has looked before segments that are queued are taken for lasting: there is no room for them."""

_TURNS = 5
_ELAPSED = struct.Struct("d")
_PLACE = struct.Struct("dddddd")  # process, next timer, how often busy, how often looked, when last, what it saw
_PLACES = 64
_FIRST = 64
_SIZE = _FIRST + _PLACES * 64


class SharedClock(VirtualClock):
    """A virtual clock of several processes. One of them, the test, moves it; the others ring their timers then.

    Args:
        path: The file that it is in.
        moves: Whether this is the process that moves it; it makes the file.

    Attributes:
        backlog: Tells whether work waits that a process could take: then the clock stands still for a while.
        due_at: Tells when the next work is due, by `now`, which no process need have a timer for.
    """

    def __init__(self, path: Path, *, moves: bool = False) -> None:
        self._moves = moves
        if moves:
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._file = os.dup(file.fileno())
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._place = 0
        self._pid = 0
        self._poll_context = _background()
        self._origin = 0.0
        self._quiet_since: dict[float, tuple[float, float]] = {}
        self.backlog: Callable[[], Awaitable[bool]] | None = None
        self.due_at: Callable[[], Awaitable[float | None]] | None = None
        super().__init__()

    @property
    def _elapsed(self) -> float:
        return float(_ELAPSED.unpack_from(self._memory, 0)[0])

    @_elapsed.setter
    def _elapsed(self, elapsed: float) -> None:
        if self._moves and elapsed:
            _ELAPSED.pack_into(self._memory, 0, elapsed)

    # ------------------------------------------------------------------------------------------------- as a clock
    def now(self) -> float:
        self._attach()
        return super().now()

    def monotonic(self) -> float:
        self._attach()
        return super().monotonic() - self._origin

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self._attach()
        return super().call_later(seconds, callback)

    def hold(self) -> Hold:
        self._attach()
        return super().hold()

    # ------------------------------------------------------------------------------------------------ for the test
    def begin(self) -> None:
        """Begin anew at a whole second: `monotonic` says 0 in the process that moves it."""
        self._timers.clear()
        self._elapsed = self._origin = ceil(self._elapsed)

    async def advance(self, seconds: float | timedelta) -> None:
        """Move it, and have each process ring what falls due on the way, in order."""
        length = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        self._attach()
        end = self._elapsed + length
        await self._in_background(self._calm)
        while (due := self._earliest()) <= end:
            self._elapsed = due
            await self._in_background(self._calm)
        self._elapsed = end
        await self._in_background(self._calm)

    async def drive(self, work: Awaitable[T]) -> T:
        """Await `work`, and move the clock to the next timer of any process whenever nobody can go on."""
        self._attach()
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        try:
            await self._in_background(lambda: self._move_until(task))
            return await task
        finally:
            task.cancel()

    # -------------------------------------------------------------------------------------------------- inside
    async def _in_background(self, act: Callable[[], Any]) -> None:
        """Do something whose own waits are no reason for the clock to stand still."""
        await asyncio.get_running_loop().create_task(act(), context=_background())

    async def _move_until(self, task: asyncio.Future[Any]) -> None:
        moved = self._looks()
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
            if task.done() or not self._is_quiet():
                continue
            timer, due = self._earliest(), await self._next_work()
            if min(timer, due) == inf:
                await asyncio.wait({task}, timeout=_PATIENT_POLL_SECONDS)
                continue
            if not self._have_looked(moved, _BACKLOG_LOOKS) and self.backlog is not None and await self.backlog():
                continue
            if self._is_quiet() and self._earliest() == timer:
                self._elapsed = max(self._elapsed, min(timer, due))
                moved = self._looks()
                await self._calm()

    async def _calm(self) -> None:
        """Wait until each process has seen the time, and its loop has had nothing to do for a while."""
        until = time.monotonic() + 10.0
        calm = 0
        while calm < 5 and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
            elapsed = self._elapsed
            is_seen = all(seen >= elapsed and due > elapsed for _, due, *_, seen in self._living())
            calm = calm + 1 if is_seen else 0

    async def _next_work(self) -> float:
        """Return when the next work is due that is not yet: what is due already is backlog."""
        at = None if self.due_at is None else await self.due_at()
        return inf if at is None or at <= self.now() else at - self._start

    def _is_quiet(self) -> bool:
        """Whether each process has looked often enough since one was busy, or began."""
        now, since = self._looks(), self._quiet_since
        if {pid: busy for pid, (busy, _) in now.items()} != {pid: busy for pid, (busy, _) in since.items()}:
            self._quiet_since = now
            return False
        return self._have_looked(since, _QUIET_LOOKS)

    def _looks(self) -> dict[float, tuple[float, float]]:
        """Return how often each process was busy, and how often it has looked."""
        return {place[0]: (place[2], place[3]) for place in self._living()}

    def _have_looked(self, since: dict[float, tuple[float, float]], times: int) -> bool:
        return all(looked >= since.get(pid, (0, 0))[1] + times for pid, (_, looked) in self._looks().items())

    def _earliest(self) -> float:
        return min((due for _, due, *_ in self._living()), default=inf)

    def _living(self) -> list[tuple[float, ...]]:
        found = []
        for offset in range(_FIRST, _SIZE, 64):
            place = _PLACE.unpack_from(self._memory, offset)
            if place[0] and time.monotonic() - place[4] > 0.1 and not _lives(int(place[0])):
                _PLACE.pack_into(self._memory, offset, *[0.0] * 6)
            elif place[0]:
                found.append(place)
        return found

    # ---------------------------------------------------------------------------------------- in every process
    def _attach(self) -> None:
        """Take a place in the file for this process, where its loop runs, and look after it from now on."""
        loop = asyncio._get_running_loop()
        if loop is None or (loop is self._loop and self._pid == os.getpid()):
            return
        if self._pid == os.getpid() and self._loop is not None and self._loop.is_running():
            return
        if self._pid != os.getpid():
            self._timers, self._holds = [], set()
            self._pid, self._place = os.getpid(), self._new_place()
        self._loop = loop
        self._look()

    def _new_place(self) -> int:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            for offset in range(_FIRST, _SIZE, 64):
                if not _PLACE.unpack_from(self._memory, offset)[0]:
                    now = time.monotonic()
                    _PLACE.pack_into(self._memory, offset, float(os.getpid()), inf, 1.0, 1.0, now, self._elapsed)
                    return offset
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        raise RuntimeError("more processes go by one clock than it has places for")

    def _look(self, turns: int = 0) -> None:
        """Ring what is due, and say how it stands here, when the loop has had nothing else to do for some turns."""
        loop = self._loop
        if loop is None or asyncio._get_running_loop() is not loop:
            return
        elapsed = self._elapsed
        has_rung = False
        while (due := self._next_due()) is not None and due <= elapsed:
            self._ring()
            has_rung = True
        is_busy = has_rung or _is_due_now(loop)
        if is_busy and turns < _TURNS:
            loop.call_soon(self._look, turns + 1, context=self._poll_context)
            return
        is_busy = is_busy or bool(self._holds) or _is_timer_near()
        _, _, busy, looked, _, _ = _PLACE.unpack_from(self._memory, self._place)
        next_due = inf if (due := self._next_due()) is None else due
        told = (float(os.getpid()), next_due, busy + is_busy, looked + 1, time.monotonic(), elapsed)
        _PLACE.pack_into(self._memory, self._place, *told)
        loop.call_later(_POLL_SECONDS, self._look, context=self._poll_context)


def _background() -> Context:
    """Return a context in which no rest keeps a clock from being moved."""
    context = Context()
    context.run(in_background.set, True)  # noqa: FBT003  that is what it takes
    return context


def _is_due_now(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop has something to do beside its duties, which never end."""
    ready = loop._ready.copy()  # type: ignore[attr-defined]  # threads add to it
    return not all(_is_in_background(handle) for handle in ready)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
