"""The app in a worker with our async pool: it lives on the pool's loop, beside users' tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from millstream.backends.celery.pool import loop_closing, loop_draining, loop_started
from millstream.backends.celery.runtime import WorkerRuntime


class LoopWorkplace:
    """Runs an app on the loop of our async pool.

    Args:
        make: Makes the runtime, on that loop.
        grace: Seconds in which what runs may still end.
    """

    def __init__(self, make: Callable[[], WorkerRuntime], grace: float) -> None:
        """Hear when the loop begins and ends."""
        self._make = make
        self._grace = grace
        self._runtime: WorkerRuntime | None = None
        self._stopping: concurrent.futures.Future[None] | None = None
        loop_started.connect(self._begin, weak=False)
        loop_draining.connect(self._drain, weak=False)
        loop_closing.connect(self._end, weak=False)

    async def serve(self) -> None:
        """Take what can be claimed."""
        if self._runtime is not None:
            await self._runtime.serve()

    def _begin(self, loop: asyncio.AbstractEventLoop, **_: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), loop).result()

    async def _start(self) -> None:
        self._runtime = self._make()
        await self._runtime.start()

    def _drain(self, loop: asyncio.AbstractEventLoop, **_: Any) -> None:
        if self._stopping is None and self._runtime is not None:
            self._stopping = asyncio.run_coroutine_threadsafe(self._runtime.stop(self._grace), loop)

    def _end(self, loop: asyncio.AbstractEventLoop, **_: Any) -> None:
        self._drain(loop)
        if self._stopping is not None:
            self._stopping.result()
