"""What this process knows of the jobs of which it holds segments: which of their nodes have ended."""

from __future__ import annotations

from millstream.ledger.base import Claim

Key = tuple[str, int, int]
"""Job, segment, attempt."""


def key_of(claim: Claim) -> Key:
    """Return what a claim is known by."""
    return claim.job.id, claim.segment, claim.attempt


class Ended:
    """Which nodes of a job have ended.

    Attributes:
        nodes: Their paths, as far as that is committed.
        until: Number of the last event that is known.
        claims: The claims for which that is kept.
    """

    __slots__ = ("claims", "nodes", "until")

    def __init__(self, until: int = 0) -> None:
        """Know of no node."""
        self.nodes: set[str | None] = set()
        self.until = until
        self.claims: set[Key] = set()


class Holds:
    """The ended nodes per job. Used by the writer's thread alone."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ended: dict[str, Ended] = {}

    def ended(self, job_id: str) -> Ended | None:
        """Return what is known of a job's nodes."""
        return self._ended.get(job_id)

    def keep(self, job_id: str, ended: Ended, fresh: set[str | None], until: int) -> None:
        """Take note of further nodes that have ended, now that this is committed, and up to which event all are known.

        What is known must not grow before: a transaction that is made again would take its own ends for repeated ones.
        """
        known = self._ended.setdefault(job_id, ended)
        if known is not ended:  # each item of the transaction was written by itself
            known.nodes |= ended.nodes
            known.claims |= ended.claims
        known.nodes |= fresh
        known.until = until

    def follow(self, job_id: str, was: int, until: int) -> None:
        """Take note of events that end no node, if all before them are known."""
        ended = self._ended.get(job_id)
        if ended is not None and ended.until == was:
            ended.until = until

    def drop(self, key: Key) -> None:
        """Forget a claim that holds no longer, and with a job's last one what is known of the job."""
        ended = self._ended.get(key[0])
        if ended is not None:
            ended.claims.discard(key)
            if not ended.claims:
                del self._ended[key[0]]
