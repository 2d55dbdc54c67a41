"""Which jobs to list."""

from __future__ import annotations

import msgspec

from millstream.model.job import JobRecord, JobState, Reason


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list.

    Attributes:
        states: Jobs in one of these; all without.
        flow: Jobs of this flow; all without.
        owner: Jobs of the user with this id; all without.
        reason: Jobs with this reason; all without.
        created_after: Jobs submitted at this time or later; seconds since the epoch, UTC.
        created_before: Jobs submitted before this time.
        before: Jobs older than the one with this id, which is where the last page ended.
        after: Jobs newer than the one with this id.
        oldest_first: Whether the oldest come first; else the newest do.
        limit: At most this many.
    """

    states: tuple[JobState, ...] = ()
    flow: str | None = None
    owner: str | None = None
    reason: Reason | None = None
    created_after: float | None = None
    created_before: float | None = None
    before: str | None = None
    after: str | None = None
    oldest_first: bool = False
    limit: int = 100

    def takes(self, job: JobRecord) -> bool:
        """Return whether a job is meant, the limit aside."""
        return (
            (not self.states or job.state in self.states)
            and self.flow in (None, job.flow)
            and self.owner in (None, job.owner)
            and self.reason in (None, job.reason)
            and (self.created_after is None or job.created_at >= self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
            and (self.before is None or job.id < self.before)
            and (self.after is None or job.id > self.after)
        )
