"""How a run that is over ends its job, or lays it down."""

from __future__ import annotations

from millstream.engine.run import Run
from millstream.errors import ExpiredError, PoisonError, Reject, TaskTimeoutError
from millstream.ledger.base import Pause, Settlement
from millstream.model.failure import Failure
from millstream.model.job import JobState, Reason
from millstream.model.policy import class_name

_REASONS: dict[str, Reason] = {
    class_name(TaskTimeoutError): "timeout",
    class_name(ExpiredError): "expired",
    class_name(PoisonError): "poison",
    class_name(Reject): "rejected",
}


def end_of(run: Run, state: JobState) -> Settlement | Pause:
    """Return how a run that is over ends its job, or lays it down."""
    match state:
        case JobState.SUCCEEDED:
            return Settlement(state, result=run.result)
        case JobState.CANCELLED:
            return stopped(is_out=run.handing is not None and run.handing.may_be_executed)
        case JobState.WAITING:
            kind, until = run.paused or ("shutdown", 0.0)
            return Pause(kind, until, 0)
        case _:
            return Settlement(state, _reason(run.failure), error=run.failure)


def stopped(*, is_out: bool) -> Settlement | Pause:
    """Return how the main segment of a job that somebody cancelled ends.

    Args:
        is_out: Whether others may execute nodes of it. The job must not be said to have ended before they have stopped:
            the ledger gives the main segment to nobody until no other one is held.
    """
    return Pause("handed_out", None, 0) if is_out else Settlement(JobState.CANCELLED, "cancel")


def _reason(failure: Failure | None) -> Reason:
    """Return the reason of a failed job: a time-out, an expiry and poison have their own."""
    if failure is None:
        return "internal"
    return next((reason for name, reason in _REASONS.items() if name in failure.ancestors), "error")
