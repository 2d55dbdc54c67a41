"""The backend in this process: one task group, which pulls queued segments into as many slots as the settings give."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context

import anyio
from anyio.abc import TaskGroup

from millstream.execution.segment import Segments
from millstream.ledger.base import Claim, Ledger

KEPT_JOBS = 10_000
"""Ended jobs that a ledger in memory keeps, so that a process which runs for months does not grow."""

_TRIM_EVERY = 100


class AnyIOBackend:
    """Executes segments as coroutines of this process; see `TaskBackend` for what its methods promise.

    Args:
        process: Id of this process, the holder of its claims.
        ledger: Where queued segments are claimed.
        segments: Executes them.
        slots: How many run at once, 1 or more.
    """

    name = "anyio"

    def __init__(self, process: str, ledger: Ledger, segments: Segments, slots: int) -> None:
        """Start nothing yet."""
        self._process = process
        self._ledger = ledger
        self._segments = segments
        self._free = slots
        self._ended = 0
        self._group: TaskGroup | None = None
        self._host: asyncio.Task[None] | None = None
        self._is_pulling = False
        self._is_queue_waiting = False

    async def start(self) -> None:
        """Begin to execute; see `TaskBackend.start`."""
        if self._host is None:
            started = asyncio.Event()
            self._host = asyncio.create_task(self._serve(started), name="millstream backend")
            await started.wait()

    async def stop(self) -> None:
        """Cancel what runs; see `TaskBackend.stop`."""
        host, self._host = self._host, None
        if host is not None:
            if not host.get_loop().is_closed():
                host.cancel()
                with suppress(asyncio.CancelledError):
                    await host
            await self._segments.give_up(self._process)

    def can_take(self) -> bool:
        """Whether a slot is free; see `Dispatcher.can_take`."""
        return self._free > 0 and self._group is not None

    def take(self, claim: Claim) -> None:
        """Execute a claimed segment; see `Dispatcher.take`."""
        self._free -= 1
        if self._group is None:
            raise RuntimeError("the backend takes segments only between start and stop")
        # In an empty context: a job inherits nothing of its submitter, for it may as well run in another process.
        Context().run(self._group.start_soon, self._execute, claim)

    def wake(self) -> None:
        """Pull queued segments, now if slots are free, else when one becomes free; see `Dispatcher.wake`."""
        if not self.can_take():
            self._is_queue_waiting = True
        elif not self._is_pulling and self._group is not None:
            self._is_pulling = True
            self._group.start_soon(self._pull)

    def cancel(self, job_id: str) -> None:
        """Stop a job's segment if it runs here; see `Canceller.cancel`."""
        self._segments.cancel(job_id)

    async def _serve(self, started: asyncio.Event) -> None:
        """Own the task group: whoever cancels this task ends everything that runs."""
        try:
            async with anyio.create_task_group() as self._group:
                started.set()
                await anyio.sleep_forever()
        finally:
            self._group = None

    async def _pull(self) -> None:
        try:
            while self._free > 0:
                claims = await self._ledger.claim(self._process, self._free)
                for claim in claims:
                    self.take(claim)
                if not claims:
                    return
            self._is_queue_waiting = True
        finally:
            self._is_pulling = False

    async def _execute(self, claim: Claim) -> None:
        try:
            await self._segments.execute(claim)
        except asyncio.CancelledError:
            # One that comes from a task, which cancelled what it ran in, must not end the whole group.
            if self._group is None or self._group.cancel_scope.cancel_called:
                raise
        finally:
            self._free += 1
            self._ended += 1
        if self._ended % _TRIM_EVERY == 0:
            await self._segments.trim(KEPT_JOBS)
        if self._is_queue_waiting:
            self._is_queue_waiting = False
            self.wake()
