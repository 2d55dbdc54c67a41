"""`Millstream`: the facade: hands work in and acts on jobs; what only looks is in `records.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakValueDictionary

from millstream.assembly import Process
from millstream.authoring import current
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.draw import drawing
from millstream.authoring.registry import Definition, Registry
from millstream.authoring.result import Job
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.group_result import GroupResult
from millstream.authoring.results.making import of_submission
from millstream.authoring.results.watch import Watch
from millstream.backends.role import Role
from millstream.clock import Clock, SystemClock
from millstream.eager import EagerApp
from millstream.engine.context import running
from millstream.errors import BlockingCallError, DefinitionError
from millstream.execution.orders import Orders, Placed, Terms
from millstream.home import Home
from millstream.ledger.accounts import Accounts
from millstream.ledger.flow_store import FlowStore
from millstream.ledger.identity import Identity
from millstream.model.job import JobRecord
from millstream.portal import run_here, run_on
from millstream.records import Records
from millstream.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class Millstream(Records):
    """An app: tasks and flows, and the engine that runs them.

    It starts on first use, on the event loop that uses it first, and can then be used from any loop and thread. Close
    it with `async with` or `aclose()`. Durable jobs that have not ended stay in the ledger, for any process that knows
    their flow; jobs of durability `off` end with the app.

    While it runs, an app also takes up jobs that wait in its ledger, and those of processes that died, where it knows
    their flows.

    Args:
        imports: Modules whose tasks and flows it knows by name, beside those of the setting `imports`.
        settings: The settings; by default they are read from the environment, `.env` and `config.yaml`.
        clock: The time; tests put a virtual one here.
        executes: Whether it executes jobs. Without, it submits them for other processes, and looks after them. By
            default it does, but where the setting `celery_enabled` leaves that to workers.

    Raises:
        SettingsError: A setting is wrong.
        UnknownNameError: There is no module of that name.

    Example:
        >>> import asyncio
        >>> from millstream import flow, task
        >>> @task
        ... def square(x: int) -> int: return x * x
        >>> @flow
        ... def squares(upto: int):
        ...     return square.map(list(range(upto)))
        >>> async def main() -> list[int]:
        ...     async with Millstream() as app:
        ...         job = await app.submit(squares, upto=4)
        ...         return await job.result()
        >>> asyncio.run(main())
        [0, 1, 4, 9]
    """

    result_type = AsyncResult

    def __init__(
        self,
        *,
        imports: Sequence[str] = (),
        settings: Settings | None = None,
        clock: Clock | None = None,
        executes: bool | None = None,
    ) -> None:
        self.settings = settings or Settings.load()
        if executes is None:
            executes = not self.settings.celery_enabled
        self.registry = Registry()
        self._clock = clock or SystemClock()
        super().__init__(Home(self.settings, self.registry, self._clock, current.context_of(self), Role(executes)))
        self._watches: WeakValueDictionary[str, Watch] = WeakValueDictionary()
        self._orders = Orders(self.registry, self._home.find, self.settings, self._clock)
        for module in (*self.settings.imports, *imports):
            self.registry.load(module)

    @property
    def program(self) -> Home:
        """The app as a Celery worker needs it; see `millstream.backends.celery.runtime.Program`."""
        return self._home

    # ------------------------------------------------------------------------------------------------ lifetime
    async def __aenter__(self) -> Self:
        """Start the app on this event loop."""
        await self._home.started()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Close the app."""
        await self.aclose()

    async def aclose(self, grace: float = 0.0) -> None:
        """Stop what still runs, and release everything; may be called twice, and before the app was started.

        Durable jobs are handed on: another process, or the next app on this ledger, goes on with them. Jobs of
        durability `off` are cancelled.

        Args:
            grace: Seconds in which what runs may still end here; nothing is begun any more.
        """
        await self._home.close(grace)

    # ------------------------------------------------------------------------------------------- handing work in
    async def submit(  # noqa: PLR0913  one for each thing that there is to say about a job
        self,
        work: Definition | Signature | str,
        /,
        *args: Any,
        idempotency_key: str | None = None,
        priority: int | None = None,
        expires: float | timedelta | datetime | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        queue: str | None = None,
        owner: str | None = None,
        is_interactive: bool = False,
        connection: Connection | AsyncConnection | None = None,
        **inputs: Any,
    ) -> Job:
        """Submit a flow, a task or a canvas, and return its job without waiting for it.

        Args:
            work: A flow or task, the name of one that the app knows, or a signature of any kind.
            args: Its inputs by position; those of a signature come before its own.
            idempotency_key: A second submit with this key returns the first one's job.
            priority: 0 to 9; of queued jobs, the higher starts first.
            expires: When the job must have started, else it fails: seconds from now, a `timedelta`, or a `datetime`
                with a time zone.
            countdown: Seconds until it may start.
            eta: When it may start, with a time zone; in place of `countdown`.
            queue: The queue that workers take it from; by default that of the flow or task, else the default queue.
                Where jobs run in this process it changes nothing.
            owner: Id of the user whose job it is, by whom `jobs` can find it; inside a task, by default that task's.
            is_interactive: Whether it is cancelled when nobody who looked at it does any more.
            connection: An SQLAlchemy connection to the ledger's database, in a transaction: the job is there if and
                only if you commit it. Nothing starts before.
            inputs: Its inputs by name.

        Raises:
            UnknownNameError: The app knows no flow or task of this name.
            InvalidInputError: The inputs do not fit.
            NotSerializableError: The job is durable, and an input cannot be written down.
            DefinitionError: An option is out of range, or does not go with another.
            DrawingError: The flow's body cannot be drawn.
            GraphError: What it drew is not valid.
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs, or a `task_id` to
                another job.
            LedgerUnavailableError: The ledger does not answer.
            ClosedError: The app was closed.
        """
        terms = Terms(
            idempotency_key=idempotency_key,
            priority=priority,
            expires=expires,
            countdown=countdown,
            eta=eta,
            queue=queue,
            owner=owner,
            is_interactive=is_interactive,
        )
        placed = await self._place(work, args, inputs, terms)
        return Job(self, await self._record(placed, connection))

    def hand_in(
        self,
        work: Definition | Signature | str,
        /,
        *args: Any,
        connection: Connection | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        expires: float | timedelta | datetime | None = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        queue: str | None = None,
        **inputs: Any,
    ) -> AsyncResult | GroupResult:
        """Submit as `submit` does, and return the result in Celery's shape; blocks until the job is recorded.

        This is what `delay` and `apply_async` do. Any thread may call it, also a task that runs in one: what that
        submits is then its child.

        Raises:
            BlockingCallError: It is called on the event loop that runs the app.
            DefinitionError: It is called while a flow is drawn.
            Exception: What `submit` raises.
        """
        if drawing.get() is not None:
            raise DefinitionError("a flow's body only draws, so it submits nothing; call the task itself, as a node")
        if self.settings.task_always_eager:
            return self.apply(work, *args, **inputs)
        self._refuse_loop("delay() and apply_async()", "await app.submit(...)")
        terms = Terms(
            idempotency_key=idempotency_key,
            priority=priority,
            expires=expires,
            countdown=countdown,
            eta=eta,
            queue=queue,
        )
        if isinstance(work, Signature):  # here, so that no loop is held up by it
            placed = self._orders.of_canvas(work.clone(args, inputs) if args or inputs else work, terms)
        else:
            placed = self.block_on(lambda: self._place(work, args, inputs, terms))
        if connection is None:
            record = self.block_on(lambda: self._record(placed, None))
        else:  # a connection belongs to its thread
            record = run_here(lambda: self._record(placed, connection))
        return of_submission(self, record.id, placed.spine)

    async def _place(
        self, work: Definition | Signature | str, args: tuple[Any, ...], inputs: dict[str, Any], terms: Terms
    ) -> Placed:
        if isinstance(work, Signature):
            return self._orders.of_canvas(work.clone(args, inputs) if args or inputs else work, terms)
        return await self._orders.of_work(work, args, inputs, terms)

    async def _record(self, placed: Placed, connection: Connection | AsyncConnection | None) -> JobRecord:
        process = await self._home.started()
        if connection is None:
            record = await run_on(process.loop, process.submit(placed.order))
        else:
            record = await process.submit_in(connection, placed.order)
        here = running.get()
        if here is not None:
            here.record("called", {"id": placed.task_id(record.id)})
        return record

    def definition(self, name: str) -> Definition:
        """Return a flow or task that the app knows, by its name.

        Raises:
            UnknownNameError: It knows none of this name.
        """
        return self.registry.get(name)

    def run(self, work: Definition | Signature | str, /, *args: Any, **inputs: Any) -> Any:
        """Submit a flow, a task or a canvas, wait for it, and return its result; blocks. Takes what `submit` takes.

        Raises:
            BlockingCallError: It is called inside a task or flow, or on the event loop that runs the app.
            JobCancelledError: The job was cancelled.
            Exception: What `submit` raises, and whatever failed the job.
        """
        if running.get() is not None or drawing.get() is not None:
            raise BlockingCallError(
                "run() inside a task could wait for itself; make it a node, or await it in an async flow"
            )
        self._refuse_loop("run()", "await app.submit(...)")
        return self.block_on(lambda: self._run(work, *args, **inputs))

    async def _run(self, work: Definition | Signature | str, /, *args: Any, **inputs: Any) -> Any:
        job = await self.submit(work, *args, **inputs)
        try:
            return await job.result()
        except asyncio.CancelledError:
            await asyncio.shield(job.cancel())
            raise

    def apply(
        self, work: Definition | Signature | str, /, *args: Any, throw: bool | None = None, **options: Any
    ) -> AsyncResult | GroupResult:
        """Run a flow, a task or a canvas here and now, in the calling thread, and return its result; for tests.

        Plain functions are called in this thread, one after the other; sleeps and retries take no time; what a task
        hands in runs at once, too; nothing is recorded. Time-outs hold for coroutines only. `delay` and `apply_async`
        do the same where the setting `task_always_eager` is on.

        Args:
            work: As for `submit`.
            args: As for `submit`.
            throw: Whether what fails the job is raised, in place of being kept in the result; by default the setting
                `task_eager_propagates` decides.
            options: As for `submit`; those about when and how the job is to start have no effect.

        Raises:
            BlockingCallError: It waits for an approval or a decision, which nobody can give.
            Exception: What `submit` raises; with `throw`, what failed the job.
        """
        return EagerApp(self.settings, self.registry, self._clock).apply(work, *args, throw=throw, **options)

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a loop of the app's own, and wait for what it returns; blocks.

        Args:
            make: Makes the coroutine; it is called only if there is a loop to run it.

        Raises:
            BlockingCallError: It is called on the event loop that runs the app.
            ClosedError: The app was closed.
        """
        self._refuse_loop("this call", "`Job`, as in `await (await app.job(job_id)).result()`")
        return self._home.door().call(make())

    def _refuse_loop(self, what: str, instead: str) -> None:
        if self._home.is_here():
            raise BlockingCallError(f"{what} would block the loop that runs the app; use {instead}")

    # ------------------------------------------------------------------------------------------------ looking
    async def job(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            JobNotFoundError: There is none.
        """
        return Job(self, await self.record(job_id))

    def watch(self, job_id: str) -> Watch:
        """Return what follows a job: the same for all that look at it at the same time."""
        watch = self._watches.get(job_id)
        if watch is None:
            watch = self._watches[job_id] = Watch(self, job_id)
        return watch

    async def accounts(self) -> Accounts:
        """Return the ledger's users; opens it, whatever `durability` says. Raises `LedgerUnavailableError`."""
        return (await self._home.at(Process.share)).accounts

    async def flow_store(self) -> FlowStore:
        """Return the flows that are kept in the ledger; as `accounts`."""
        return (await self._home.at(Process.share)).flow_store

    async def identity(self) -> Identity:
        """Return what tells the ledger from all others; as `accounts`."""
        return await (await self._home.at(Process.share)).identity()

    # ------------------------------------------------------------------------------------------------ acting
    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and return it as it then is; see `Job.cancel`.

        Raises:
            JobNotFoundError: There is none.
        """
        return await self._home.at(lambda process: process.cancels.cancel(job_id))

    async def approve(self, job_id: str, node: str, answer: Any = True) -> bool:  # noqa: FBT002  any value may be it
        """Answer an approval that waits, by its node's path; return whether one waited there."""
        return await self._home.at(lambda process: process.answers.answer(job_id, node, answer))

    async def retry(
        self, job_id: str, *, from_start: bool = False, once: bool = False, idempotency_key: str | None = None
    ) -> Job:
        """Submit a job that has ended once more, and return the new job: the same flow with the same inputs.

        Args:
            job_id: The job that has ended.
            from_start: Run everything again, and do not take over what succeeded.
            once: Refuse a job that was retried before, while the job that came of it is there.
            idempotency_key: A second retry of the job with this key returns the first one's job; in place of `once`.

        Raises:
            JobNotFoundError: There is no such job.
            StateTransitionError: It has not ended.
            AlreadyRetriedError: It was to be retried once, and was.
            IdempotencyConflictError: The key belongs to another job than a retry of this one.
            NotSerializableError: A value's class is not to be found here.
        """
        how = {"from_start": from_start, "once": once}
        record = await self._home.at(lambda process: process.repeats.repeat(job_id, key=idempotency_key, **how))
        return Job(self, record)

    async def purge(self, job_ids: Collection[str]) -> list[str]:
        """Forget those of these jobs that have ended, with their results and events, and return their ids."""

        async def forget(_: Process) -> list[str]:
            forgotten = await self._home.ledger.forget(job_ids)
            for job_id in forgotten:
                self._home.log.forget(job_id)
                self._watches.pop(job_id, None)
            return forgotten

        return await self._home.at(forget)
