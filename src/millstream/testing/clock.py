"""A clock that a test moves: retries of hours, time-outs and sleeps pass in milliseconds, in order."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from millstream.clock import Timer, in_background

T = TypeVar("T")

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z: where a virtual clock begins, so that a test sees the same times each time it is run."""

_QUIET_TURNS = 3
_MOST_TURNS = 100_000
_NEAR_SECONDS = 0.5
_PAUSE_SECONDS = 0.001


class VirtualClock:
    """A clock whose time stands still until a test moves it: `Millstream(clock=VirtualClock())`.

    `advance` moves it by a given time, whatever goes on. `drive` awaits something and moves it whenever nothing else
    can go on: it jumps to the next timer when

    - the event loop had nothing to do for three turns in a row,
    - nobody holds the clock: the engine does while a function runs in a thread or process and while a flow is drawn,
      and so can a test or a task that waits for something real (`with clock.hold(): ...`), and
    - no timer of the loop itself is due within half a second: an `asyncio.sleep(0.1)` is waited for, the
      `anyio.fail_after(10)` around a test is not.

    So real work is not jumped over. What the clock cannot see is a coroutine that waits for a socket of its own: hold
    the clock around that. In a pool process `ctx.now()` and the soft time-out go by real time. The clock belongs to one
    event loop, and needs asyncio's own.

    Args:
        start: What `now` says at first: seconds since the epoch, or a `datetime` with a time zone.

    Raises:
        ValueError: `start` is a `datetime` without a time zone.

    Example:
        >>> import asyncio
        >>> from millstream import Millstream, sleep, flow
        >>> @flow
        ... async def nap():
        ...     await sleep(3600)
        ...     return "rested"
        >>> async def main() -> tuple[str, float]:
        ...     clock = VirtualClock()
        ...     async with Millstream(clock=clock) as app:
        ...         job = await app.submit(nap)
        ...         return await clock.drive(job.result()), clock.monotonic()
        >>> asyncio.run(main())
        ('rested', 3600.0)
    """

    def __init__(self, start: float | datetime = START) -> None:
        if isinstance(start, datetime):
            if start.tzinfo is None:
                raise ValueError("a virtual clock starts at seconds since the epoch or a datetime with a time zone")
            start = start.timestamp()
        self._start = float(start)
        self._elapsed = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = count()
        self._holds: set[Hold] = set()
        self._settling = 0
        self._is_driven = False

    # ------------------------------------------------------------------------------------------- as a `Clock`
    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds that have passed on this clock."""
        return self._elapsed

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` when the clock has been moved by `seconds`; at once, on the loop, where that is no time."""
        if seconds <= 0:
            return asyncio.get_running_loop().call_soon(callback)
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._elapsed + seconds, next(self._order), timer))
        return timer

    def hold(self) -> Hold:
        """Keep `drive` from moving the clock until the hold is cancelled; it is a context manager, too."""
        return Hold(self._holds)

    # --------------------------------------------------------------------------------------------- for the test
    async def advance(self, seconds: float | timedelta) -> None:
        """Move the clock, and call what falls due on the way, in order.

        After each call the loop runs until it has nothing to do, so that what was called can set further timers; those
        that fall due in the same time are called too. Threads and processes are not waited for.

        Args:
            seconds: How far, >= 0.

        Raises:
            ValueError: `seconds` is negative: time does not run backwards.
            Exception: What a timer's callback raises.
        """
        length = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if length < 0:
            raise ValueError(f"time does not run backwards: {seconds!r}")
        end = self._elapsed + length
        await self._settle()
        while (due := self._next_due()) is not None and due <= end:
            self._ring()
            await self._settle()
        self._elapsed = max(self._elapsed, end)

    async def drive(self, work: Awaitable[T]) -> T:
        """Await `work`, and move the clock to the next timer whenever nothing else can go on (see the class).

        Args:
            work: What to await; for several things `asyncio.gather(...)`. It is cancelled when the caller is.

        Returns:
            What `work` returns.

        Raises:
            RuntimeError: The clock is being driven already.
            Exception: What `work` or a timer's callback raises.
        """
        if self._is_driven:
            if asyncio.iscoroutine(work):
                work.close()  # else Python warns of it, too
            raise RuntimeError("the clock is being driven already; await the other thing in the same drive(...)")
        self._is_driven = True
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self._settle(task)
                if not task.done() and not self._jump():
                    await asyncio.wait({task}, timeout=_PAUSE_SECONDS)
        finally:
            self._is_driven = False
            if not task.done():
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({task})
        return await task

    def __repr__(self) -> str:
        """Return a form that tells the time."""
        return f"<VirtualClock at {self.now():.6f}, {self._elapsed:g} s after its start>"

    # -------------------------------------------------------------------------------------------------- inside
    def _jump(self) -> bool:
        """Move to the next timer, if there is one and nothing real is to be waited for; return whether it was so."""
        if self._holds or self._next_due() is None or _is_timer_near():
            return False
        self._ring()
        return True

    def _next_due(self) -> float | None:
        while self._timers and self._timers[0][2].is_cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _ring(self) -> None:
        due, _, timer = heapq.heappop(self._timers)
        self._elapsed = max(self._elapsed, due)
        timer.ring()

    async def _settle(self, unless: asyncio.Future[Any] | None = None) -> None:
        """Let the loop run until it has had nothing to do for some turns, or `unless` is done."""
        ready = _own_loop()._ready  # type: ignore[attr-defined]  # noqa: SLF001  nothing public tells whether a loop is idle
        quiet = 0
        self._settling += 1
        try:
            for _ in range(_MOST_TURNS):
                await asyncio.sleep(0)
                # Whoever settles at the same time has one call ready himself.
                quiet = quiet + 1 if len(ready) < self._settling else 0
                if quiet == _QUIET_TURNS or (unless is not None and unless.done()):
                    return
        finally:
            self._settling -= 1


class Hold:
    """Keeps a virtual clock from being moved by `drive`, until `cancel` or the end of its `with` block."""

    __slots__ = ("_holds",)

    def __init__(self, holds: set[Hold]) -> None:
        """Hold at once."""
        self._holds = holds
        holds.add(self)

    def cancel(self) -> None:
        """Let go; may be called twice."""
        self._holds.discard(self)

    def __enter__(self) -> Self:
        """Go on holding."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Let go."""
        self.cancel()


class _Timer:
    """A callback that was put off, with the context variables of whoever put it off."""

    __slots__ = ("_callback", "_context")

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self._context = copy_context()

    @property
    def is_cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None

    def ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._context.run(callback)


def _own_loop() -> asyncio.BaseEventLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise TypeError(f"a virtual clock needs asyncio's own event loop, not {type(loop).__qualname__}")
    return loop


def _is_timer_near() -> bool:
    """Whether the loop itself waits for a time that comes soon."""
    loop = _own_loop()
    soon = loop.time() + _NEAR_SECONDS
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # noqa: SLF001  as for `_ready`
    return any(timer.when() < soon and not timer.cancelled() and not _is_in_background(timer) for timer in timers)


def _is_in_background(timer: asyncio.TimerHandle) -> bool:
    context: Context = timer._context  # type: ignore[attr-defined]  # noqa: SLF001  as for `_ready`
    return context.get(in_background, False)
