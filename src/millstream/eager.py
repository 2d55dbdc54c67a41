"""Eager mode: an app whose home is the thread of whoever calls it. What is handed in has ended when that returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from dataclasses import replace
from typing import Any, TypeVar, cast

from millstream.assembly import Process
from millstream.authoring import current
from millstream.authoring.aside import in_this_thread
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.registry import Definition, Registry
from millstream.authoring.result import Job, unwrap
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.eager_result import EagerResult
from millstream.authoring.results.group_result import GroupResult
from millstream.authoring.results.making import of_submission
from millstream.authoring.results.watch import Watch
from millstream.backends.eager import EagerBackend
from millstream.backends.role import Role
from millstream.clock import Clock
from millstream.engine.context import running
from millstream.execution.orders import Orders, Placed, Terms
from millstream.home import Home
from millstream.ledger.tiered import TieredLedger
from millstream.model.job import JobRecord, JobState
from millstream.portal import run_here
from millstream.records import Records
from millstream.settings import Settings

T = TypeVar("T")

_FOR_LATER = ("connection", "countdown", "eta", "expires", "idempotency_key", "priority")
"""What a submission says that has no meaning for what runs at once; Celery passes over it, too."""


class EagerApp(Records):
    """Runs what is handed in at once, in the calling thread; what a task hands in meanwhile, too.

    Its jobs are in memory, and are gone with the last of their results.

    Args:
        settings: The settings.
        registry: The tasks and flows that are known by name.
        clock: The time.
    """

    result_type = EagerResult

    def __init__(self, settings: Settings, registry: Registry, clock: Clock) -> None:
        in_memory = settings.model_copy(update={"durability": "off"})
        self._eager_home = EagerHome(in_memory, registry, clock)
        super().__init__(self._eager_home)
        self.settings = settings
        self._registry = registry
        self._orders = Orders(registry, self._eager_home.find, in_memory, clock)
        self._propagates = settings.task_eager_propagates

    # ------------------------------------------------------------------------------------------- handing work in
    def apply(
        self, work: Definition | Signature | str, /, *args: Any, throw: bool | None = None, **options: Any
    ) -> AsyncResult | GroupResult:
        """Run it to its end, and return its result; see `Millstream.apply`.

        Raises:
            BlockingCallError: It waits for an approval or a decision, which nobody can give.
            Exception: What `submit` raises, and what failed the job, if this app raises that.
        """
        placed, record = self.block_on(lambda: self._run(work, args, options))
        propagates = self._propagates if throw is None else throw
        if propagates and record.state is not JobState.SUCCEEDED:
            unwrap(record)
        return of_submission(self, record.id, placed.spine)

    def hand_in(self, work: Definition | Signature | str, /, *args: Any, **options: Any) -> AsyncResult | GroupResult:
        """Do as `apply`."""
        return self.apply(work, *args, **options)

    def run(self, work: Definition | Signature | str, /, *args: Any, **options: Any) -> Any:
        """Run it to its end, and return what it returned.

        Raises:
            Exception: What `submit` raises, and whatever failed the job.
        """
        return unwrap(self.block_on(lambda: self._run(work, args, options))[1])

    async def submit(self, work: Definition | Signature | str, /, *args: Any, **options: Any) -> Job:
        """Run it to its end, and return its job.

        Raises:
            Exception: See `Millstream.submit`.
        """
        return Job(self, (await self._run(work, args, options))[1])

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a fresh loop in this thread, and return what it returns."""
        with current.use(self):
            return run_here(make)

    async def _run(
        self, work: Definition | Signature | str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Placed, JobRecord]:
        here = running.get()
        # In a context of its own: it is another task, not the one that hands it in, that runs there.
        placed, record = await asyncio.create_task(self._place_and_run(work, args, options))
        if here is not None and here.job_id in self._eager_home.backend.ledger:
            here.record("called", {"id": placed.task_id(record.id)})
        return placed, record

    async def _place_and_run(
        self, work: Definition | Signature | str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Placed, JobRecord]:
        in_this_thread.set(True)
        inputs = {name: value for name, value in options.items() if name not in _FOR_LATER}
        if isinstance(work, Signature):
            placed = self._orders.of_canvas(work.clone(args, inputs), Terms())
        else:
            placed = await self._orders.of_work(work, args, inputs, Terms())
        order = replace(placed.order, durability="off", starts_at=None, expires=None)
        return placed, await self._eager_home.backend.run(order)

    def definition(self, name: str) -> Definition:
        """Return a flow or task that the app knows, by its name.

        Raises:
            UnknownNameError: It knows none of this name.
        """
        return self._registry.get(name)

    # ------------------------------------------------------------------------------------------------ looking
    def watch(self, job_id: str) -> Watch:
        """Return what follows a job; since most have ended, each looks for itself."""
        return Watch(self, job_id)

    async def job(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            JobNotFoundError: There is none.
        """
        return Job(self, await self.record(job_id))

    # ------------------------------------------------------------------------------------------------ acting
    async def cancel(self, job_id: str) -> JobRecord:
        """Return a job as it ended: what is handed in has ended when it can be cancelled.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self.record(job_id)

    async def approve(self, job_id: str, node: str, answer: Any = True) -> bool:  # noqa: ARG002, FBT002  see `Millstream`
        """Return that nothing waits for an answer there: what is handed in has ended, or was refused."""
        return False

    async def purge(self, job_ids: Collection[str]) -> list[str]:
        """Forget those of these jobs that have ended, and return their ids."""
        return await self.ledger.forget(job_ids)


class EagerHome(Home):
    """The parts of an eager app: they live on no loop, and start nothing.

    Args:
        settings: The settings.
        registry: The tasks and flows that are known by name.
        clock: The time.

    Attributes:
        backend: Runs the jobs.
    """

    def __init__(self, settings: Settings, registry: Registry, clock: Clock) -> None:
        super().__init__(settings, registry, clock, Context(), Role(executes=True))
        self.backend = EagerBackend(self._library, clock)
        self.ledger = TieredLedger(self.backend.ledger)
        self.log = self.backend.log

    async def at(self, act: Callable[[Process], Coroutine[Any, Any, T]]) -> T:
        """Do something here: of a process, who looks at jobs asks for nothing but what is executed."""
        return await act(cast("Process", self.backend))
