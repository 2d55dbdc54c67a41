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
            return Settlement(state, "cancel")
        case JobState.WAITING:
            kind, until = run.paused or ("shutdown", 0.0)
            return Pause(kind, until, 0)
        case _:
            return Settlement(state, _reason(run.failure), error=run.failure)


def _reason(failure: Failure | None) -> Reason:
    """Return the reason of a failed job: a time-out, an expiry and poison have their own."""
    if failure is None:
        return "internal"
    return next((reason for name, reason in _REASONS.items() if name in failure.ancestors), "error")
