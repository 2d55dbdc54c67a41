"""The backend in this process: one task group, which pulls queued segments into as many slots as the settings give."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from contextvars import Context
from functools import partial

import anyio
from anyio.abc import TaskGroup

from millstream.clock import Clock, Timer
from millstream.execution.segment import Segments
from millstream.ledger.base import Claim, FencedError, Ledger, LedgerUnavailableError, StorageFullError
from millstream.log import get_logger
from millstream.model.failure import record_failure
from millstream.portal import end

_log = get_logger("millstream.backends")

_AT_ONCE = 100
"""Segments that are claimed at once, so that a process takes no long time to take what others could start with."""

_SOON = 0.05
"""Seconds until another look at what is due already, but could not be claimed."""

_AGAIN = 0.005
"""Seconds until another look after one that has not filled all slots, so that what was found begins first."""

_FEW = 1
"""While more segments than these run, looks that find something are that far apart: then they find several at once."""

_LINGER = 0.05
"""Seconds for which a gate that was opened stays open with nothing to do."""

_TRIM_EVERY = 100

_STOPPED = 1000
"""Jobs that were stopped here and are remembered: another word of their cancel may still be on its way."""

_SIDES_AT_ONCE = 2
_SIDES_SECONDS = 0.01
"""Seconds after which it shows whether those that were taken last left room for more."""


class AnyIOSegmentBackend:
    """Executes segments as coroutines of this process; see `SegmentBackend` for what its methods promise.

    Args:
        process: Gives the id of this process, the holder of its claims.
        ledger: Where queued segments are claimed.
        segments: Executes them.
        clock: Tells when paused segments may be claimed again.
        slots: How many run at once, 1 or more.
        context: What running tasks find in their context: the app that runs them.
        queues: Segments of these queues are claimed, `None` among them for the default queue; `None`: of all.
    """

    name = "anyio"

    def __init__(
        self,
        process: Callable[[], str],
        ledger: Ledger,
        segments: Segments,
        clock: Clock,
        slots: int,
        context: Context,
        queues: Collection[str | None] | None = None,
    ) -> None:
        """Start nothing yet; the gate is open."""
        self._context = context
        self._queues = queues
        self._is_open = True
        self._closes_at: float | None = None
        self._for_seconds: float | None = None
        self._resting: set[tuple[str, int]] = set()
        self._sides_from = 0.0
        self._process = process
        self._ledger = ledger
        self._segments = segments
        self._slots = self._free = slots
        self._clock = clock
        self._ended = 0
        self._group: TaskGroup | None = None
        self._host: asyncio.Task[None] | None = None
        self._alarm: Timer | None = None
        self._idle = asyncio.Event()
        self._taken = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._is_draining = False
        self._is_pulling = False
        self._is_queue_waiting = False
        self._stopped: deque[str] = deque(maxlen=_STOPPED)

    async def start(self) -> None:
        """Begin to execute; see `SegmentBackend.start`."""
        if self._host is None:
            started = asyncio.Event()
            self._is_draining = False
            self._host = asyncio.create_task(self._serve(started), name="millstream backend")
            await started.wait()

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and let what runs end; see `SegmentBackend.drain`."""
        self._is_draining = True
        with anyio.move_on_after(seconds):
            while self._segments.running():
                self._idle.clear()
                await self._idle.wait()

    async def stop(self) -> None:
        """Cancel what runs; see `SegmentBackend.stop`."""
        host, self._host = self._host, None
        await end(host)

    # ---------------------------------------------------------------------------------------------------- the gate
    def open_gate(self) -> None:
        """Take segments from now on."""
        self._is_open = True
        self._closes_at = None
        self.wake()

    def close_gate(self) -> None:
        """Take no segments until `open_gate`; those that run go on."""
        self._is_open = False

    async def until_idle(self, seconds: float) -> None:
        """Close the gate when nothing is left to take, or some time after a segment ended; return when nothing runs.

        For whoever opened the gate for a while: what ran has then ended or been laid down. With nothing to take the
        gate stays open for a moment more: who submits one thing after the other need not knock each time.

        Args:
            seconds: How long segments are taken after the first one ended, 0 or more.
        """
        self._for_seconds = seconds
        self.wake()
        try:
            while self._is_pulling or self._segments.running() or await self._takes_more():
                self._idle.clear()
                if self._is_pulling or self._segments.running():
                    await self._idle.wait()
        finally:
            self._for_seconds = None
            self.close_gate()

    async def _takes_more(self) -> bool:
        """Wait a moment for something to take, unless the gate is closed; return whether there was."""
        self._taken.clear()
        with anyio.move_on_after(_LINGER if self.can_take() else 0.0):
            await self._taken.wait()
        return self._taken.is_set()

    def can_take(self) -> bool:
        """Whether a slot is free, and the gate open; see `Dispatcher.can_take`."""
        return self._is_open and self._free > 0 and self._group is not None and not self._is_draining

    def take(self, claim: Claim) -> None:
        """Execute a claimed segment; see `Dispatcher.take`."""
        self._free -= 1
        self._taken.set()
        if self._group is None:
            raise RuntimeError("the backend takes segments only between start and stop")
        self._segments.accept(claim, partial(self._rests, (claim.job.id, claim.segment)))
        # In a context of its own: a job inherits nothing of its submitter, for it may as well run in another process.
        self._context.copy().run(self._group.start_soon, self._execute, claim)

    def wake(self) -> None:
        """Pull queued segments, now if slots are free, else when one becomes free; see `Dispatcher.wake`."""
        if self._is_pulling or not self.can_take():
            self._is_queue_waiting = True
        elif self._group is not None and not self._looks_soon():
            self._is_pulling = True
            self._group.start_soon(self._pull)

    def cancel(self, job_id: str) -> None:
        """Stop a job's segment if it runs here; see `Canceller.cancel`."""
        if job_id in self._segments.running() and job_id not in self._stopped:
            self._stopped.append(job_id)
        self._segments.cancel(job_id)

    def has(self, job_id: str) -> bool:
        """Whether a job runs here, or was stopped here a while ago; see `Canceller.has`."""
        return job_id in self._stopped or job_id in self._segments.running()

    async def _serve(self, started: asyncio.Event) -> None:
        """Own the task group: whoever cancels this task ends everything that runs."""
        try:
            async with anyio.create_task_group() as self._group:
                started.set()
                await anyio.sleep_forever()
        finally:
            self._group = None
            self._set_alarm(None)
            if self._again is not None:
                self._again.cancel()
                self._again = None

    async def _pull(self) -> None:
        """Pull once; a ledger that does not answer is asked later."""
        try:
            await self._claim()
        except (FencedError, LedgerUnavailableError, StorageFullError):
            pass  # this process is dead for it, or it cannot be reached: others say so
        except Exception as error:  # noqa: BLE001  it would end the group, and with it all that runs
            _log.error("segments could not be claimed", trace=record_failure(error).traceback)
        finally:
            self._is_pulling = False
            self._idle.set()

    async def _claim(self) -> None:
        """Claim as long as slots are free and segments are queued."""
        while self.can_take():
            self._is_queue_waiting = False
            flows = self._segments.flows()
            most = min(self._free, _AT_ONCE)
            claims = await self._ledger.claim(self._process(), most, flows, self._queues, self._room_for_sides())
            for claim in claims:
                self.take(claim)
            if any(claim.order is not None for claim in claims):
                loop = asyncio.get_running_loop()
                self._sides_from = loop.time() + _SIDES_SECONDS
                loop.call_later(_SIDES_SECONDS, self.wake)
            if claims:
                self._look_again()
            if len(claims) == most or (self._is_queue_waiting and not self._looks_soon()):
                continue
            if not claims:
                self._set_alarm(await self._ledger.due_at(flows, self._queues))
            return
        self._is_queue_waiting = True

    def _looks_soon(self) -> bool:
        """Whether much runs here, and a look is to come anyway."""
        return self._again is not None and self._slots - self._free > _FEW

    def _look_again(self) -> None:
        """Look in a moment for what could not be claimed yet, and for what is due when."""

        def look() -> None:
            self._again = None
            self.wake()

        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(_AGAIN, look)

    def _room_for_sides(self) -> int:
        """Return how many side segments may be claimed: none while there is enough to do here for others to help."""
        is_early = asyncio.get_running_loop().time() < self._sides_from
        return 0 if is_early or not self._segments.has_room() else _SIDES_AT_ONCE

    def _rests(self, key: tuple[str, int], is_resting: bool) -> None:  # noqa: FBT001  see `Segments.accept`
        """Give a segment's slot to others while it awaits what others execute; it need not wait for it afterwards."""
        if is_resting:
            self._resting.add(key)
            self._free += 1
            self.wake()
        else:
            self._resting.discard(key)
            self._free -= 1

    def _end_gate(self) -> None:
        """Close the gate some time after the first segment ended, where it was opened for so long."""
        if self._for_seconds is None:
            return
        now = self._clock.monotonic()
        if self._closes_at is None:
            self._closes_at = now + self._for_seconds
        if now >= self._closes_at:
            self.close_gate()

    def _set_alarm(self, due_at: float | None) -> None:
        """Pull when the next paused or scheduled segment may be claimed."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        if due_at is not None:
            seconds = due_at - self._clock.now()
            self._alarm = self._clock.call_later(seconds if seconds > 0 else _SOON, self.wake)

    async def _execute(self, claim: Claim) -> None:
        try:
            await self._segments.execute(claim)
        except asyncio.CancelledError:
            # One that comes from a task, which cancelled what it ran in, must not end the whole group.
            if self._group is None or self._group.cancel_scope.cancel_called:
                raise
        finally:
            key = claim.job.id, claim.segment
            self._free += key not in self._resting
            self._resting.discard(key)
            self._ended += 1
            self._end_gate()
            self._idle.set()
        if self._ended % _TRIM_EVERY == 0:
            await self._segments.trim()
        if self._is_queue_waiting or claim.crashes:  # of those that crashed, one at a time is given to a process
            self._is_queue_waiting = False
            self.wake()
