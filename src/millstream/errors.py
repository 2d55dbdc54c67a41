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


class WorkflowServiceUnavailableError(MillstreamError):
    """Raised when the ledger cannot be reached or has no room, so that nothing can be handed in or looked up."""


class WorkflowResourceError(MillstreamError):
    """Raised when a job is more than a limit allows: its graph, its inputs or a result is too large."""


# ------------------------------------------------------------------------------------------------ definitions
class SettingsError(MillstreamError):
    """Raised when a setting has a wrong value, an unknown name, or needs a part that is not there."""


class AddressInUseError(MillstreamError):
    """Raised when the server cannot listen where it should."""


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


class GraphTooLargeError(GraphError, WorkflowResourceError):
    """Raised when a graph has more nodes than the setting `max_graph_nodes` allows."""


class DocumentError(DefinitionError):
    """Raised when a flow document, or what a job of it is given, is not valid; `problems` lists every problem."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """Take all problems: of each its place, such as `nodes[2].data.values.text`, and what is wrong there."""
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{where}: {what}" for where, what in self.problems))


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


class TaskRevokedError(JobCancelledError):
    """Raised to whoever waits for a task that was cancelled, or had not started before it expired."""


class ResultTimeoutError(MillstreamError, TimeoutError):
    """Raised by `get(timeout=…)` when the task has not ended in time; the task goes on."""


class IncompleteResultsError(MillstreamError):
    """Raised when results are walked through of which one is not there yet."""


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


class OutputTooLargeError(WorkflowResourceError):
    """Raised when a job's inputs or a task's result have more bytes than the setting `max_value_bytes` allows."""


class EgressDeniedError(MillstreamError):
    """Raised when a task wants to connect to an address that is not public, and not among those that are allowed."""


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


class Ignore(Skip):
    """Raised by a task to end its node as `skipped`, under Celery's name for it."""


class Reject(Exception):  # noqa: N818  as `Skip`; Celery's name for it
    """Raised by a task to refuse what it was given: its node fails with the reason `rejected`, and is not repeated.

    Args:
        reason: One line that is shown in the event log.
        requeue: Try again after a second instead; such an attempt does not count towards the task's `retries`.

    Attributes:
        requeue: Whether to try again.
    """

    def __init__(self, reason: object = "rejected", requeue: bool = False) -> None:  # noqa: FBT001, FBT002  as Celery's
        """Take the reason, and whether to try again."""
        super().__init__(str(reason))
        self.requeue = requeue


class Retry(Exception):  # noqa: N818  an outcome that a task chooses, not an error
    """Raised by a task to ask for another attempt, whatever `retry_for` says.

    Args:
        reason: One line that is shown in the event log.
        delay: Seconds until the next attempt; without it the task's back-off decides.
        limit: The most attempts after the first one; `math.inf` sets no bound, and without it the task's `retries`
            decides.
        expires: Seconds in which the next attempt must have started, else the node fails as expired.
        exc: What went wrong, where something did.
    """

    def __init__(
        self,
        reason: str = "asked for a retry",
        *,
        delay: float | None = None,
        limit: float | None = None,
        expires: float | None = None,
        exc: BaseException | None = None,
    ) -> None:
        """Take what there is to say about the next attempt."""
        if delay is not None and not 0 <= delay < float("inf"):
            raise ValueError(f"delay is {delay!r}, but must be a number of seconds, 0 or more")
        if limit is not None and not limit >= 0:
            raise ValueError(f"limit is {limit!r}, but must be a number of attempts, 0 or more")
        super().__init__(reason)
        self.delay = delay
        self.limit = limit
        self.expires = expires
        self.exc = exc


class MaxRetriesExceededError(MillstreamError):
    """Raised by `self.retry()` when a task has had all its attempts; the message names the task, its id and arguments.

    An exception that was given to `self.retry(exc=...)` is raised instead, and has this one as its cause.
    """
