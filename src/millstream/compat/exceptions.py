"""Celery's exceptions under their names, as `celery.exceptions` has them.

Where millstream itself raises in such a case, the name here is its class, so that an `except` clause catches it.
What follows from that: `CeleryError` and `TaskError` are one class, the base of all that millstream raises as an error;
`TaskPredicate` is a tuple of the three outcomes that a task chooses, good for `except` and `isinstance`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from millstream.errors import (
    DefinitionError,
    DuplicateNameError,
    Ignore,
    MaxRetriesExceededError,
    MillstreamError,
    NotSerializableError,
    ProcessDiedError,
    Reject,
    SettingsError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TaskTimeoutError,
    UnknownNameError,
)
from millstream.errors import ResultTimeoutError as TimeoutError
from millstream.errors import Retry as _Retry
from millstream.ledger.base import LedgerUnavailableError

__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "RetryTaskError",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
    "reraise",
]

# -------------------------------------------------------------------------------------------- raised by millstream
CeleryError = MillstreamError
TaskError = MillstreamError
ImproperlyConfigured = SettingsError
NotRegistered = UnknownNameError
AlreadyRegistered = DuplicateNameError
InvalidTaskError = DefinitionError
TimeLimitExceeded = TaskTimeoutError
WorkerLostError = ProcessDiedError
EncodeError = NotSerializableError
OperationalError = LedgerUnavailableError
BackendError = LedgerUnavailableError
BackendGetMetaError = LedgerUnavailableError
BackendStoreError = LedgerUnavailableError


class Retry(_Retry):
    """Raised by `self.retry()` to ask for another attempt.

    Args:
        message: One line that is shown in the event log.
        exc: What went wrong, where something did; an exception, or a text.
        when: When the next attempt starts: seconds from now, or a time.
        is_eager: Whether the task runs in place of being submitted.
        sig: Not used; it has a meaning in Celery only.
        limit: See `millstream.Retry`.
        expires: See `millstream.Retry`.

    Attributes:
        message: See above.
        when: See above.
        excs: What went wrong, as text.
        is_eager: See above.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,  # noqa: ARG002  as Celery's
        *,
        limit: float | None = None,
        expires: float | None = None,
    ) -> None:
        """Take what there is to say about the next attempt."""
        self.message, self.when, self.is_eager = message, when, is_eager
        self.excs = exc if isinstance(exc, str) else repr(exc) if exc is not None else None
        super().__init__(
            message or self._told(),
            delay=_seconds_until(when),
            limit=limit,
            expires=expires,
            exc=exc if isinstance(exc, BaseException) else None,
        )

    def humanize(self) -> str:
        """Say when the next attempt starts."""
        if self.when is None:
            return "as soon as its delay is over"
        return f"at {self.when}" if isinstance(self.when, datetime) else f"in {self.when}s"

    def _told(self) -> str:
        return f"Retry {self.humanize()}: {self.excs}" if self.excs else f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made elsewhere."""
        return _copy_of, (
            self.message,
            self.excs if self.exc is None else self.exc,
            self.when,
            self.limit,
            self.expires,
        )


def _copy_of(message: Any, exc: Any, when: Any, limit: Any, expires: Any) -> Retry:
    return Retry(message, exc, when, limit=limit, expires=expires)


def _seconds_until(when: float | datetime | None) -> float | None:
    """Return the seconds from now until a time; 0 where it is over."""
    if not isinstance(when, datetime):
        return when
    return max(0.0, (when - datetime.now(when.tzinfo)).total_seconds())


RetryTaskError = Retry

TaskPredicate: Final = (Ignore, Reject, _Retry)


# ---------------------------------------------------------------------------- never raised here, but caught or raised
class ChordError(CeleryError):
    """Raised by Celery in place of what failed in a chord's header; here that failure itself is raised."""


class QueueNotFound(CeleryError, KeyError):
    """Raised by Celery for a queue that is not declared; here queues need no declaration."""


class IncompleteStream(CeleryError):
    """Raised by Celery where data ends too early."""


class SecurityError(CeleryError):
    """Raised by Celery for a message that is not signed as it should be."""


class Terminated(CeleryError):
    """Raised by Celery in a worker's process for a task that was terminated."""


class WorkerTerminate(SystemExit):
    """Raised to stop a worker at once."""


class WorkerShutdown(SystemExit):
    """Raised to stop a worker when what it runs has ended."""


# -------------------------------------------------------------------------------------------------------- warnings
class CeleryWarning(UserWarning):
    """Base of all warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """Warns that `send_task` submits a task although `task_always_eager` is on."""


class DuplicateNodenameWarning(CeleryWarning):
    """Warns, in Celery, of two workers with one name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Warns that two tasks of one app have one name; the first one keeps it."""


class FixupWarning(CeleryWarning):
    """Warns, in Celery, of a fix-up that does not work."""


class NotConfigured(CeleryWarning):
    """Warns, in Celery, that there is no module of settings."""


class SecurityWarning(CeleryWarning):
    """Warns, in Celery, of something unsafe."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Warns of something that Celery will deprecate."""


class CDeprecationWarning(DeprecationWarning):
    """Warns of something that Celery will remove."""


def reraise(kind: type[BaseException], value: BaseException, tb: Any = None) -> None:  # noqa: ARG001  as Celery's
    """Raise an exception with a traceback.

    Raises:
        BaseException: `value`.
    """
    raise value.with_traceback(tb) if value.__traceback__ is not tb else value
