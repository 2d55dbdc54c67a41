"""What a running task can ask and say: `ctx`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, NoReturn, Protocol

from millstream.clock import chance, new_id
from millstream.engine.request import Request
from millstream.errors import DefinitionError


class Running(Protocol):
    """One attempt that is running; the engine, a pool process and a conducting flow each have their own."""

    @property
    def job_id(self) -> str:
        """Id of the job."""

    @property
    def node(self) -> str:
        """Path of the node in the job."""

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""

    @property
    def deadline(self) -> float | None:
        """When the attempt's time-out is over; seconds since the epoch, UTC."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""

    @property
    def request(self) -> Request:
        """The attempt as its task sees it; made when it is asked for."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""

    def random(self) -> float:
        """Return a random number in [0, 1)."""

    def uuid(self) -> str:
        """Return a new id."""

    def emit(self, kind: str, data: Any) -> None:
        """Put a volatile event into the job's event log."""

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Put a durable event into the job's event log.

        Raises:
            NotSerializableError: The data cannot be written down.
        """

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Begin a conducting flow's body anew."""


running: ContextVar[Running | None] = ContextVar("millstream_running", default=None)
"""The attempt that runs here; `None` outside of tasks."""


loading_main: ContextVar[bool] = ContextVar("millstream_loading_main", default=False)
"""Whether a pool process is just loading the program's main file, which must not start work of its own meanwhile."""


class Context:
    """What a running task can ask and say, as `from millstream import ctx`.

    Every attribute raises `LookupError` outside a running task.

    Example:
        >>> from millstream import Millstream, ctx, task
        >>> @task
        ... async def whoami() -> str:
        ...     ctx.progress(1, 2, message="half way")
        ...     return ctx.node
    """

    __slots__ = ()

    @property
    def job_id(self) -> str:
        """Id of the job that the task runs for."""
        return _here().job_id

    @property
    def node(self) -> str:
        """Path of the task's node in its job, such as `multiply[3]`."""
        return _here().node

    @property
    def task_id(self) -> str:
        """Id of the node among all jobs: `<job id>.<node>`, unless it was given one (`task_id`)."""
        here = _here()
        return here.request.id or f"{here.job_id}.{here.node}"

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return _here().attempt

    @property
    def deadline(self) -> float | None:
        """When this attempt's `timeout` is over (seconds since the epoch, UTC); `None` without one."""
        return _here().deadline

    @property
    def cancelled(self) -> bool:
        """Whether the job was asked to stop: what a long function in a thread should look at now and then."""
        return _here().is_cancelled

    def now(self) -> float:
        """Return seconds since the epoch, UTC; in a conducting flow it is recorded."""
        return _here().now()

    def random(self) -> float:
        """Return a random number in [0, 1); in a conducting flow it is recorded."""
        return _here().random()

    def uuid(self) -> str:
        """Return a new UUID (version 7) as a string; in a conducting flow it is recorded."""
        return _here().uuid()

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Begin the body of the conducting flow anew with these arguments; what it recorded so far is not run again.

        For flows that go on for long: a body may record 10,000 calls, and runs through all of them when its job goes
        on after a crash. Does not return.

        Raises:
            DefinitionError: It is called in a task, not in the body of an `async def` flow.
            NotSerializableError: An argument cannot be written down.

        Example:
            >>> from millstream import ctx, flow, sleep, task
            >>> @task
            ... async def look(page: int) -> bool: return page < 3
            >>> @flow
            ... async def watch(page: int = 0) -> int:
            ...     if await look(page):
            ...         ctx.continue_as_new(page + 1)
            ...     return page
            >>> watch.run()
            3
        """
        _here().continue_as_new(*args, **kwargs)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress as an event `progress`.

        Args:
            done: How much is done, in any unit.
            total: How much there is, in the same unit, where that is known.
            message: One line for people.
        """
        _here().emit("progress", {"done": done, "total": total, "message": message})

    def log(self, message: str, *, level: str = "info", **fields: Any) -> None:
        """Write a line to the job's log as an event `log`.

        Args:
            message: One line for people.
            level: `debug`, `info`, `warning` or `error`.
            fields: Further facts, for machines.
        """
        _here().emit("log", {"level": level, "message": message, **fields})

    def emit(self, kind: str, data: Any = None) -> None:
        """Put an event of one's own into the job's event log.

        Args:
            kind: The event's type, such as `token`; not one that millstream itself uses.
            data: Anything that JSON can hold.

        Raises:
            ValueError: The type is millstream's own.
        """
        if kind in _OWN_TYPES:
            raise ValueError(f"the event type {kind!r} is millstream's own; choose another")
        _here().emit(kind, data)


_OWN_TYPES = frozenset(
    {
        "planned",
        "started",
        "expanded",
        "routed",
        "waiting",
        "answered",
        "continued",
        "noted",
        "handed_out",
        "taken_back",
        "state",
        "called",
        "ended",
        "progress",
        "log",
    }
) | {
    f"node_{what}" for what in ("started", "succeeded", "failed", "retried", "skipped", "upstream_failed", "cancelled")
}


def _here() -> Running:
    here = running.get()
    if here is None:
        raise LookupError("ctx says something only inside a running task or flow")
    return here


class SystemChance:
    """Random numbers and ids as they come, for tasks (a conducting flow records its own)."""

    __slots__ = ()

    def random(self) -> float:
        """Return a random number in [0, 1)."""
        return chance()

    def uuid(self) -> str:
        """Return a new id."""
        return new_id()

    def continue_as_new(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse: a task has nothing to go on from."""
        raise DefinitionError("ctx.continue_as_new is for the body of an `async def` flow, not for a task")


ctx = Context()
