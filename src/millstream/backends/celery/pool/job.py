"""One execution of a Celery task in the pool, and how the code of a task finds the one that it belongs to."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import getcurrent

if TYPE_CHECKING:
    from millstream.backends.celery.pool.loop import Body
    from millstream.backends.celery.pool.task_pool import TaskPool
    from millstream.backends.celery.pool.tracers import Tracer


class Place(Enum):
    """Where a job runs."""

    LOOP = "coroutines"
    THREAD = "threads"
    PROCESS = "processes"


class Dropped(BaseException):
    """Ends Celery's tracer, or the function in a thread, of a job whose outcome is known without it."""


class Calls(NamedTuple):
    """What Celery wants to be told of a job.

    Attributes:
        accepted: It began; takes a process id and the time by `time.monotonic`.
        succeeded: The tracer returned; takes what it returned, which may tell of a failure.
        failed: The tracer itself raised; takes an `ExceptionInfo`.
        timed_out: A limit is over; takes whether it is the soft one, and its seconds.
    """

    accepted: Callable[..., Any]
    succeeded: Callable[..., Any]
    failed: Callable[..., Any]
    timed_out: Callable[..., Any]


class Job:
    """One execution of a Celery task.

    What Celery gets from `apply_async` of the pool: it may call `terminate`.

    Args:
        pool: Runs it.
        task: Celery's task.
        target: Celery's tracer.
        args: What the tracer gets.
        calls: What Celery wants to be told.
        limits: Seconds of the soft and of the hard time limit, `None` where there is none.

    Attributes:
        has_waited: Whether it did not begin at once.
        is_dropped: Whether its outcome is known without it: it was terminated, or its hard limit is over.
        has_body: Whether the task's own function was called.
        later: What has to be published when the function has ended: the retries that it asked for.
    """

    __slots__ = (
        "__weakref__",
        "_body_lock",
        "_body_thread",
        "args",
        "body",
        "calls",
        "has_body",
        "has_waited",
        "is_dropped",
        "later",
        "limits",
        "place",
        "pool",
        "stop",
        "target",
        "task",
        "timers",
        "tracer",
    )

    def __init__(
        self,
        pool: TaskPool,
        task: Any,
        target: Callable[..., Any],
        args: Any,
        calls: Calls,
        limits: tuple[float | None, float | None],
        place: Place,
    ) -> None:
        """Take what is to be done; nothing runs yet."""
        self.pool = pool
        self.task = task
        self.target = target
        self.args = args
        self.calls = calls
        self.limits = limits
        self.place = place
        self.has_waited = False
        self.is_dropped = False
        self.has_body = False
        self.later: list[Any] = []
        self.body: Body | None = None
        self.tracer: Tracer | None = None
        self.stop: Callable[[], object] | None = None
        self.timers: list[Any] = []
        self._body_lock = threading.Lock()
        self._body_thread: int | None = None

    @property
    def request(self) -> Any:
        """Celery's request, which knows whether it was revoked."""
        return getattr(self.calls.accepted, "__self__", None)

    def terminate(self, _signal: Any = None) -> None:
        """Free the slot and cancel, kill or drop what runs; Celery calls this in the pool's own thread."""
        self.pool.terminated(self)

    def run_in_thread(self, body: Callable[[], Any]) -> Any:
        """Run the task's function in the calling thread, so that `interrupt` reaches it."""
        with self._body_lock:
            self._body_thread = threading.get_ident()
        try:
            return body()
        finally:
            with self._body_lock:
                self._body_thread = None

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an exception of this class inside the function, at its next bytecode, if it is running in a thread."""
        with self._body_lock:
            if self._body_thread is not None:
                identity = ctypes.c_ulong(self._body_thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(kind))


current: ContextVar[Job | None] = ContextVar("millstream_celery_job", default=None)
"""The job whose code runs here."""


def identity() -> Any:
    """Return what Celery's stacks of requests and tasks are kept by here: the job, else the thread or greenlet."""
    job = current.get()
    return getcurrent() if job is None else job
