"""The default app: the one stated exception to "no module-level state".

One app per process, keyed by pid (a forked child gets its own), made on first use by the factory that the package sets.
So `flow.run()` and `task.delay()` need no ceremony. A context variable may put another app in its place: for tests and
integrations, and inside running tasks, where it is the app that runs them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from millstream.engine.context import running
from millstream.errors import BlockingCallError
from millstream.model.event import Cursor, Event
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, NodeResult

if TYPE_CHECKING:  # they need this module, or take long to import
    from millstream.authoring.result import Job
    from millstream.authoring.results.async_result import AsyncResult
    from millstream.authoring.results.group_result import GroupResult
    from millstream.authoring.results.watch import Watch
    from millstream.settings import Settings

T = TypeVar("T")


class App(Protocol):
    """What definitions, signatures and results need of an app."""

    @property
    def result_type(self) -> type[AsyncResult]:
        """The class of its tasks' results."""

    @property
    def settings(self) -> Settings:
        """The settings of its process."""

    # ------------------------------------------------------------------------------------------- handing work in
    def run(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a flow or task and return its result; blocks."""

    async def submit(self, work: Any, /, *args: Any, **options: Any) -> Job:
        """Submit a flow, a task or a signature of any kind, and return its job; from any event loop.

        Args:
            work: What to run.
            args: For a flow or task: its inputs by position.
            options: `priority, expires, countdown, eta, idempotency_key, connection`, and the inputs by name of a flow
                or task.
        """

    def hand_in(self, work: Any, /, *args: Any, **options: Any) -> AsyncResult | GroupResult:
        """Submit as `submit` does, and return the result in Celery's shape; blocks until the job is recorded.

        It may be called from any thread, also by a task that runs in one; not on the event loop that runs the app.
        """

    def apply(self, work: Any, /, *args: Any, **options: Any) -> AsyncResult | GroupResult:
        """Run a flow, a task or a signature here and now, in the calling thread, and return its result."""

    def block_on(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on a loop of the app's own, and wait for what it returns; blocks.

        Args:
            make: Makes the coroutine; it is called only if there is a loop to run it.

        Raises:
            BlockingCallError: It is called on the event loop that runs the app.
            ClosedError: The app was closed.
        """

    def definition(self, name: str) -> Any:
        """Return a task or flow by its name.

        Raises:
            UnknownNameError: None is known under it.
        """

    # -------------------------------------------------------------------------------------------------- looking
    def watch(self, job_id: str) -> Watch:
        """Return what follows a job: the same for all that look at it at the same time."""

    async def locate(self, task_id: str) -> tuple[str, str | None] | None:
        """Return the job and node that a task id names: `<job>.<node>`, `<job>` or an alias; `None` for no known one.

        The node is `None` where the id stands for the job's own result.
        """

    async def record(self, job_id: str) -> JobRecord:
        """Return what the ledger says of a job.

        Raises:
            JobNotFoundError: There is none.
        """

    async def graph(self, job_id: str) -> tuple[Graph, Sequence[Any]]:
        """Return a job's graph, and the values of its slots.

        Raises:
            JobNotFoundError: There is none.
        """

    async def known(self, job_id: str, after: Cursor) -> list[Event]:
        """Return what is known by now of a job's events after a cursor, volatile ones too where the job runs here.

        Raises:
            JobNotFoundError: There is none.
        """

    async def data(self, job_id: str, seq: int) -> Any:
        """Return the data of a durable event, with every value whole.

        Raises:
            JobNotFoundError: There is no such job.
        """

    def read_events(self, job_id: str, after: Cursor) -> AsyncGenerator[Event, None]:
        """Yield a job's events after a cursor as they come; ends behind the last one.

        Raises:
            JobNotFoundError: There is none.
        """

    async def node_result(self, job_id: str, node: str) -> NodeResult | None:
        """Return how a node ended, with its whole value; `None` where it has not.

        Raises:
            JobNotFoundError: There is no such job.
        """

    async def outcomes(self, job_id: str) -> dict[str, NodeResult]:
        """Return how the nodes of a job ended so far, by their paths, each with its whole value; one read for all.

        Raises:
            JobNotFoundError: There is none.
        """

    # --------------------------------------------------------------------------------------------------- acting
    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and return it as it then is.

        Raises:
            JobNotFoundError: There is none.
        """

    async def purge(self, job_ids: Collection[str]) -> list[str]:
        """Forget those of these jobs that have ended, and return their ids."""


_lock = threading.Lock()
_apps: dict[int, App] = {}
_factory: list[Callable[[], App]] = []
_finders: list[Callable[[], App | None]] = []
_override: ContextVar[App | None] = ContextVar("millstream_app", default=None)


def set_factory(make: Callable[[], App]) -> None:
    """Say how the default app is made."""
    _factory[:] = [make]


def look_for(find: Callable[[], App | None]) -> None:
    """Let a function say which app is in force where no override is, such as that of the web request here."""
    if find not in _finders:
        _finders.append(find)


def override() -> App | None:
    """Return the override of this context: in a running task the app that runs it."""
    return _override.get()


def app() -> App:
    """Return the app in force here: the override of this context, what a finder finds, else the process's default app.

    Raises:
        BlockingCallError: A task runs here in a process of the pool, where there is no app.
    """
    here = _override.get()
    if here is not None:
        return here
    if running.get() is not None:  # without the app that runs it, which it would find on a loop and in a thread
        raise BlockingCallError(
            "a task with run_in='process' has no app at hand: it can submit nothing and read no results; "
            "give it run_in='thread', or let it return self.replace(...)"
        )
    for find in _finders:
        if (found := find()) is not None:
            return found
    with _lock:
        known = _apps.get(os.getpid())
        if known is None:
            known = _apps[os.getpid()] = _factory[0]()
        return known


def behind(given: Any) -> App:
    """Return a given app, or the one in force; of an app of `millstream.compat` what it hands its work to, its door."""
    return app() if given is None else getattr(given, "door", given)


@contextmanager
def use(other: App) -> Iterator[App]:
    """Put an app in the default one's place within a block."""
    token = _override.set(other)
    try:
        yield other
    finally:
        _override.reset(token)


@contextmanager
def use_everywhere(other: App) -> Iterator[App]:
    """Put an app in the default one's place within a block, for all threads and event loops of this process."""
    pid = os.getpid()
    with _lock:
        former = _apps.get(pid)
        _apps[pid] = other
    try:
        yield other
    finally:
        with _lock:
            if former is None:
                del _apps[pid]
            else:
                _apps[pid] = former


def context_of(app: App) -> Context:
    """Return a context that holds nothing but an app, in force there."""
    context = Context()
    context.run(_override.set, app)
    return context
