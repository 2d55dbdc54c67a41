"""A pool process of a prefork worker: an app of its own, on a loop in a thread, made after the fork."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from celery import signals

from millstream.backends.celery.runtime import WorkerRuntime
from millstream.portal import Portal


class PreforkWorkplace:
    """Runs an app in each pool process of a prefork worker.

    The parent opens nothing but a pipe, of which its children hold the other end. When the parent stops, or is gone,
    the pipe ends, and each child hands on what it runs.

    Args:
        make: Makes the runtime of a child, on its loop.
        grace: Seconds in which what runs may still end.
    """

    def __init__(self, make: Callable[[], WorkerRuntime], grace: float) -> None:
        """Open the pipe, and hear when children begin and end."""
        self._make = make
        self._grace = grace
        self._hears, self._tells = os.pipe()
        self._portal: Portal | None = None
        self._runtime: WorkerRuntime | None = None
        signals.worker_process_init.connect(self._begin, weak=False)
        signals.worker_process_shutdown.connect(self._end, weak=False)
        signals.worker_shutting_down.connect(self._tell, weak=False)

    def serve(self) -> None:
        """Execute what can be claimed, in a child; blocks until that is done."""
        if self._portal is not None and self._runtime is not None:
            self._portal.call(self._runtime.serve())

    def _tell(self, **_: Any) -> None:
        """Have all children hand on what they run; in the parent."""
        tells, self._tells = self._tells, -1
        if tells >= 0:
            os.close(tells)

    def _begin(self, **_: Any) -> None:
        self._tell()  # the child's own copy, which would keep the pipe from ending
        self._portal = Portal()
        self._portal.call(self._start())

    async def _start(self) -> None:
        self._runtime = runtime = self._make()
        await runtime.start()
        loop, stops = asyncio.get_running_loop(), []

        def parent_stops() -> None:
            loop.remove_reader(self._hears)
            stops.append(loop.create_task(runtime.stop(self._grace)))

        loop.add_reader(self._hears, parent_stops)

    def _end(self, **_: Any) -> None:
        portal, self._portal = self._portal, None
        if portal is not None and self._runtime is not None:
            portal.call(self._runtime.stop(self._grace))
            portal.stop()
