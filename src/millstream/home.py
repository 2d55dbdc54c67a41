"""Where an app lives: the event loop that its parts run on, and the ways there from other loops, threads and forks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import replace
from typing import Any, TypeVar

from millstream.assembly import Process, identify
from millstream.authoring import current
from millstream.authoring.registry import Registry
from millstream.backends.role import Role
from millstream.clock import Clock
from millstream.engine.context import loading_main
from millstream.engine.program import Work
from millstream.errors import BlockingCallError, ClosedError, DefinitionError
from millstream.events.memory import MemoryEventLog
from millstream.execution.library import Library
from millstream.ledger.identity import Identity
from millstream.ledger.memory import MemoryLedger
from millstream.ledger.tiered import TieredLedger
from millstream.model.names import DOCUMENTS
from millstream.portal import Portal, run_here, run_on, running_loop
from millstream.settings import Settings

T = TypeVar("T")


class Home:
    """The running parts of one app, made on first use, on the loop that uses them first.

    They are made anew where that loop is gone, and in a forked child, which starts with nothing of its parent's.

    Args:
        settings: The settings.
        registry: The tasks and flows of the app.
        clock: The time.
        context: What running tasks find in their context.
        role: What this process does for its ledger.

    Attributes:
        ledger: The record of jobs; it outlives the loop.
        log: Their events; as the ledger.
        process: The running parts, if there are any.
        is_closed: Whether the app was closed.
    """

    def __init__(self, settings: Settings, registry: Registry, clock: Clock, context: Context, role: Role) -> None:
        """Make nothing yet."""
        self._settings, self._registry, self._clock, self._role = settings, registry, clock, role
        self._context = context
        self._lock = threading.Lock()
        self._inherited: Process | None = None
        self._in_force: AbstractContextManager[object] | None = None
        self.is_closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._library = Library(self._registry.work, self._registry.claimable)
        self.ledger = TieredLedger(MemoryLedger(self._clock))
        self.log = MemoryEventLog(self._must_keep)
        self.process: Process | None = None
        self._portal: Portal | None = None

    def _must_keep(self, job_id: str) -> bool:
        """Whether the events of a job are to be had nowhere else, or still come."""
        is_running = self.process is not None and self.process.segments.is_running(job_id)
        return is_running or job_id in self.ledger.memory

    def is_here(self) -> bool:
        """Return whether the app lives on the loop that runs in this thread."""
        return self.process is not None and running_loop() is self.process.loop

    def find(self, name: str) -> Work:
        """Return a task or flow by its whole name.

        Raises:
            UnknownNameError: It is not known here.
        """
        return self._library.find(name)

    async def at(self, act: Callable[[Process], Coroutine[Any, Any, T]]) -> T:
        """Do something on the loop that the app lives on, wherever the caller is."""
        process = await self.started()
        return await run_on(process.loop, act(process))

    async def started(self) -> Process:
        """Return the running parts; those of a loop that is gone are made anew on this one.

        Raises:
            ClosedError: The app was closed.
            BlockingCallError: Its loop is paused.
            DefinitionError: A file starts work while it is imported by a process of the pool.
            LedgerUnavailableError: The ledger cannot be opened.
        """
        if loading_main.get():
            raise DefinitionError(
                "this file starts work when it is imported, and so its processes would start it again; "
                'put the start under `if __name__ == "__main__":`'
            )
        with self._lock:
            self._check()
            former = self.process
            process = self.process = self._renewed(former)
        if former is not None and process is not former:
            await former.stop()
        if not process.is_started:
            await run_on(process.loop, process.start())
        return process

    def _renewed(self, former: Process | None) -> Process:
        """Return the running parts where their loop runs; else new ones on this loop."""
        if former is not None:
            if former.loop.is_running():
                return former
            if not former.loop.is_closed():
                raise BlockingCallError(
                    "this app lives on an event loop that is paused; let that loop run, or use another Millstream here"
                )
        return Process(
            self._settings,
            self._library,
            self._clock,
            self.ledger,
            self.log,
            context=self._context,
            role=self._role,
        )

    # ------------------------------------------------------------------------------------------------ in a worker
    def employ(self, role: Role) -> None:
        """Have the app live by a role from its next start on; see `Program`. It then runs documents, too.

        Raises:
            RuntimeError: It has started.
        """
        with self._lock:
            self._check()
            if self.process is not None:
                raise RuntimeError("an app gets its role before it starts")
            self._role = role
        self._registry.claim_keys.add(DOCUMENTS)

    def answer_requests(self) -> None:
        """Be a member of the ledger from the next start on, also where nothing is executed: others see this server."""
        self._role = replace(self._role, serves=True)

    def identify(self) -> Identity:
        """Return what tells the app's ledger from others; see `Program`."""
        return run_here(lambda: identify(self._settings, self._clock))

    def flows(self) -> set[str]:
        """Return the names of the flows and tasks whose jobs can be executed here; see `Program`."""
        return self._library.flows()

    async def begin(self) -> None:
        """Start on this loop, and be the app in force in this process; see `Program`."""
        await self.started()
        if self._in_force is None:
            self._in_force = current.use_everywhere(self._context.run(current.app))
            self._in_force.__enter__()

    async def serve(self) -> None:
        """Execute what can be claimed; see `Program`."""
        await self.at(lambda process: process.serve())

    # --------------------------------------------------------------------------------------------------- the loops
    def door(self) -> Portal:
        """Return the door for blocking callers: a loop in a thread of its own.

        Raises:
            ClosedError: The app was closed.
        """
        with self._lock:
            self._check()
            if self._portal is None or not self._portal.is_running:
                self._portal = Portal()
                self._portal.on_stop(self._stop_on_portal)
            return self._portal

    async def close(self, grace: float) -> None:
        """Stop and release everything; what runs may still end within so many seconds."""
        self.is_closed = True
        in_force, self._in_force = self._in_force, None
        if in_force is not None:
            in_force.__exit__(None, None, None)
        process, self.process = self.process, None
        if process is not None:
            await (run_on(process.loop, process.stop(grace)) if process.loop.is_running() else process.abandon())
        portal, self._portal = self._portal, None
        if portal is not None:
            await asyncio.to_thread(portal.stop)

    def _check(self) -> None:
        if self.is_closed:
            raise ClosedError("this app was closed; make a new one")
        if self._pid != os.getpid():
            self._inherited = self.process  # kept: its end would close connections that the parent still uses
            self._begin()

    async def _stop_on_portal(self) -> None:
        process = self.process
        if process is not None and process.loop is asyncio.get_running_loop():
            self.process = None
            await process.stop()
