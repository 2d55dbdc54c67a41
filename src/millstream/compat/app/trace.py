"""One run of a task: its handlers and signals, in Celery's order."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from contextvars import ContextVar, Token
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from millstream.compat import signals, states
from millstream.compat._state import performing
from millstream.engine.context import running
from millstream.errors import Reject, Retry, Skip

if TYPE_CHECKING:  # a task makes its traces
    from millstream.compat.app.task import Task

_log: Final = logging.getLogger(__name__)


class ExceptionInfo:
    """What handlers and receivers are told of an exception.

    Args:
        error: The exception.

    Attributes:
        type: Its class.
        exception: The exception itself.
        tb: Its traceback.
        traceback: The same as text.
    """

    def __init__(self, error: BaseException) -> None:
        self.type = type(error)
        self.exception = error
        self.tb = error.__traceback__
        self.traceback = "".join(traceback.format_exception(error))
        self.internal = False

    @property
    def exc_info(self) -> tuple[type[BaseException], BaseException, TracebackType | None]:
        """The same, as `sys.exc_info()` gives it."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        """Return the traceback as text."""
        return self.traceback

    def __repr__(self) -> str:
        """Return a form that shows the exception."""
        return f"<ExceptionInfo {self.exception!r}>"


class Trace:
    """A block in which a task runs: `task_prerun`, `before_start`, the task, its handler and signal, `task_postrun`.

    What a handler raises after the task has ended is logged, and changes nothing of how it ended.

    Args:
        task: The task.
        args: Its arguments by position.
        kwargs: Its arguments by name.

    Attributes:
        value: What the task returned.
        is_replaced: Whether it ended by `self.replace(...)`.
    """

    def __init__(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._task, self._args, self._kwargs = task, args, kwargs
        self._request = task.request
        self._id = self._request.id or ""
        self._tokens: tuple[Token[Any], Token[Any]] | None = None
        self._begun = 0.0
        self.value: Any = None
        self.is_replaced = False

    def __enter__(self) -> Self:
        self._tokens = performing.set(self._task), tracing.set(self)
        return self

    def start(self) -> None:
        """Tell that the task starts; what `before_start` raises fails it."""
        self._begun = monotonic()
        if self._request.retries == 0:
            signals.task_received.send(self._task, request=self._request)
        signals.task_prerun.send(self._task, task_id=self._id, task=self._task, args=self._args, kwargs=self._kwargs)
        self._task.before_start(self._id, self._args, self._kwargs)

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        retval = self.value if error is None else error
        state = self._ended(error)
        try:
            if state in states.READY_STATES and state != states.REVOKED:
                einfo = ExceptionInfo(error) if error is not None else None
                self._handle(lambda: self._task.after_return(state, retval, self._id, self._args, self._kwargs, einfo))
            signals.task_postrun.send(
                self._task,
                task_id=self._id,
                task=self._task,
                args=self._args,
                kwargs=self._kwargs,
                retval=retval,
                state=state,
            )
        finally:
            if self._tokens is not None:
                performing.reset(self._tokens[0])
                tracing.reset(self._tokens[1])

    def _ended(self, error: BaseException | None) -> str:
        """Call the handler and send the signal of how the task ended; return the state."""
        if _was_revoked(error):
            signals.task_revoked.send(self._task, request=self._request, terminated=True, signum=None, expired=False)
            return states.REVOKED
        match error:
            case Skip():
                state = states.IGNORED
            case Reject():
                state = states.REJECTED
            case Retry():
                state = self._retried(error)
            case None:
                state = states.IGNORED if self.is_replaced else self._succeeded()
            case _:
                state = self._failed(error)
        return state

    def _succeeded(self) -> str:
        self._handle(lambda: self._task.on_success(self.value, self._id, self._args, self._kwargs))
        signals.task_success.send(self._task, result=self.value, runtime=monotonic() - self._begun)
        return states.SUCCESS

    def _retried(self, error: Retry) -> str:
        einfo = ExceptionInfo(error)
        self._handle(lambda: self._task.on_retry(error.exc, self._id, self._args, self._kwargs, einfo))
        signals.task_retry.send(self._task, request=self._request, reason=error, einfo=einfo)
        return states.RETRY

    def _failed(self, error: BaseException) -> str:
        einfo = ExceptionInfo(error)
        self._handle(lambda: self._task.on_failure(error, self._id, self._args, self._kwargs, einfo))
        signals.task_failure.send(
            self._task,
            task_id=self._id,
            exception=error,
            args=self._args,
            kwargs=self._kwargs,
            traceback=error.__traceback__,
            einfo=einfo,
        )
        return states.FAILURE

    def _handle(self, call: Callable[[], object]) -> None:
        """Call a handler of the task; what it raises is logged and told, and changes nothing."""
        try:
            call()
        except Exception as error:  # noqa: BLE001  a handler is the user's: nothing of the task depends on it
            _log.exception("a handler of task %s [%s] raised an error", self._task.name, self._id)
            signals.task_internal_error.send(
                self._task,
                task_id=self._id,
                args=self._args,
                kwargs=self._kwargs,
                request=self._request,
                exception=error,
                traceback=error.__traceback__,
                einfo=ExceptionInfo(error),
            )


def told_revoked(task: Task, result: Any, *, was_running: bool) -> None:
    """Send `task_revoked` where no run of the task does: it had not started, or was killed with its process."""
    if not was_running or task.policy.run_in == "process":
        signals.task_revoked.send(task, request=result, terminated=was_running, signum=None, expired=False)


def _was_revoked(error: BaseException | None) -> bool:
    """Whether the job was asked to stop, and so what the task did is dropped."""
    here = running.get()
    if here is None or not here.is_cancelled:
        return isinstance(error, asyncio.CancelledError)
    return True


tracing: Final[ContextVar[Trace | None]] = ContextVar("millstream_compat_trace", default=None)
"""The run that goes on here."""


def told(value: Any) -> Any:
    """Tell the run that goes on here what its task returned, and return that."""
    trace = tracing.get()
    if trace is not None:
        trace.value = value
    return value
