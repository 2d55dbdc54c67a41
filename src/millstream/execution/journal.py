"""What a worker says in its log about the jobs that it executes."""

from __future__ import annotations

from typing import Any, Protocol

from millstream.ledger.base import Claim, Settlement
from millstream.log import get_logger
from millstream.model.event import Draft
from millstream.model.failure import Failure
from millstream.model.job import JobRecord, JobState

_log = get_logger("millstream.jobs")


class Journal(Protocol):
    """Is told what a process executes. What it is told of has happened: an end is recorded when it hears of it."""

    def began(self, claim: Claim) -> None:
        """A segment is executed here from now on."""

    def left(self, claim: Claim) -> None:
        """A segment is no longer executed here, however it stands."""

    def retried(self, job: JobRecord, draft: Draft) -> None:
        """A node's attempt failed, and there will be another; takes the event that says so."""

    def settled(self, job: JobRecord, end: Settlement, seconds: float) -> None:
        """A job ended here, so many seconds after it was first taken up."""


class LogJournal:
    """Writes a line for each job that ends here, and for each retry: the log of a worker, in the words of Celery's."""

    def began(self, claim: Claim) -> None:
        """Say nothing: `settled` will."""

    def left(self, claim: Claim) -> None:
        """Say nothing: if it has not ended, it will somewhere."""

    def retried(self, job: JobRecord, draft: Draft) -> None:
        """Say which task is tried again, and why."""
        data: Any = draft[4]
        _log.info(f"{job.flow}[{job.id}.{draft[3]}] retry in {data['delay']:.4g} s: {_raised(data['error'])}")

    def settled(self, job: JobRecord, end: Settlement, seconds: float) -> None:
        """Say how a job ended; of a failed one with the traceback of what failed it."""
        name = f"{job.flow}[{job.id}]"
        if end.state is not JobState.FAILED or end.error is None:
            _log.info(f"{name} {end.state} in {seconds:.3g} s")
            return
        how = "raised unexpected" if end.reason == "error" else f"failed ({end.reason})"
        _log.error(f"{name} {how}: {_raised(end.error)}", exception=end.error.traceback.rstrip())


def _raised(failure: Failure) -> str:
    return f"{failure.short_type}({failure.message!r})"
