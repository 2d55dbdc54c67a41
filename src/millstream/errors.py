"""Every error that millstream raises on purpose, in one hierarchy.

Each class says in one line when it is raised. Whatever a user's own task raises is not in here: it is raised again
as its own class where that is possible, else as `TaskError`.
"""

from __future__ import annotations

from collections.abc import Sequence


class MillstreamError(Exception):
    """Base of every error that millstream itself raises."""

    def __init__(self, message: str | None = None) -> None:
        """Take the message; without one the class's own docstring is the message."""
        super().__init__(message or (type(self).__doc__ or "").split("\n", 1)[0])


# ------------------------------------------------------------------------------------------------ definitions
class SettingsError(MillstreamError):
    """Raised when a setting has a wrong value, an unknown name, or needs a part that is not there."""


class DefinitionError(MillstreamError):
    """Raised when a task or a flow cannot be defined as written."""


class DuplicateNameError(DefinitionError):
    """Raised when two different tasks or flows carry one name."""


class GraphError(DefinitionError):
    """Raised when a graph is not valid; `problems` lists every problem with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Take all problems, each one line that names its place."""
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class DrawingError(DefinitionError):
    """Raised when the body of a flow cannot be drawn."""


class HandleUsedAsValueError(DrawingError, TypeError):
    """Raised when a flow's body uses the result of a task as a value while the graph is only being drawn."""


class DrawingTimeoutError(DrawingError):
    """Raised when the body of a drawing flow takes longer than the setting `draw_timeout`."""


class InvalidInputError(MillstreamError, TypeError):
    """Raised when the inputs given for a flow or task do not fit its signature."""


class UnknownNameError(MillstreamError, LookupError):
    """Raised when no task or flow is known under a name."""


# ------------------------------------------------------------------------------------------------------- jobs
class JobNotFoundError(MillstreamError, LookupError):
    """Raised when the ledger holds no job with this id."""


class JobCancelledError(MillstreamError):
    """Raised to whoever waits for the result of a job that was cancelled."""


class JobFailedError(MillstreamError):
    """Raised to whoever waits for the result of a job that failed without any node's failure behind it."""


class TaskError(MillstreamError):
    """Raised in place of a task's own exception when its class is not at hand; the message names the class."""


class TaskTimeoutError(MillstreamError, TimeoutError):
    """Raised when an attempt ran longer than its task's `timeout`."""


class ExpiredError(MillstreamError):
    """Raised when a job or node had not started before its policy's `expires`."""


class LoopLimitError(MillstreamError):
    """Raised when a loop has taken `max_turns` turns and its condition still does not hold."""


class ProcessDiedError(MillstreamError):
    """Raised when the process that ran a task died before it answered."""


class NotSerializableError(MillstreamError, TypeError):
    """Raised when a value has to leave the process and cannot be written down."""


class OutputTooLargeError(MillstreamError):
    """Raised when a task returns more than the setting `max_value_bytes` allows."""


class PoisonError(MillstreamError):
    """Raised when a task has killed every process that it ran in."""


class RecordMismatchError(MillstreamError):
    """Raised when a conducting flow that goes on asks for another call than its record says."""


class BlockingCallError(MillstreamError, RuntimeError):
    """Raised when a blocking door (`run`, `get`) is used inside a task or flow, where it could wait for itself."""


class ClosedError(MillstreamError, RuntimeError):
    """Raised when an app that was closed is asked for work."""


# ------------------------------------------------------------------------------------------------- event log
class InvalidCursorError(MillstreamError, ValueError):
    """Raised when a cursor is not of the form `<seq>-<k>`."""


class StateTransitionError(MillstreamError):
    """Raised when a job would move to a state that its present state does not allow."""


class AlreadyRetriedError(StateTransitionError):
    """Raised when a job that was to be retried once was retried before; `by` is the id of the job that came of it."""

    def __init__(self, job_id: str, by: str) -> None:
        """Take the ids of both jobs."""
        self.by = by
        super().__init__(f"job {job_id} was retried before, as job {by}")


# ------------------------------------------------------------------------------- raised by users' tasks on purpose
class SoftTimeLimitExceeded(Exception):  # noqa: N818  Celery's name for it, which users catch
    """Raised inside a task when its `soft_timeout` is over; the task may clean up and return."""


class Skip(Exception):  # noqa: N818  an outcome that a task chooses, not an error
    """Raised by a task to end its node as `skipped`; successors follow their join rule."""


class Retry(Exception):  # noqa: N818  an outcome that a task chooses, not an error
    """Raised by a task to ask for another attempt, whatever `retry_for` says.

    Args:
        delay: Seconds until the next attempt; without it the task's back-off decides.
        reason: One line that is shown in the event log.
    """

    def __init__(self, reason: str = "asked for a retry", *, delay: float | None = None) -> None:
        """Take the reason, and the delay in seconds."""
        if delay is not None and not 0 <= delay < float("inf"):
            raise ValueError(f"delay is {delay!r}, but must be a number of seconds, 0 or more")
        super().__init__(reason)
        self.delay = delay
