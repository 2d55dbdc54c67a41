"""What this process knows of the segments it holds: which of their nodes have ended."""

from __future__ import annotations

from millstream.ledger.base import Claim

Key = tuple[str, int, int]
"""Job, segment, attempt."""


def key_of(claim: Claim) -> Key:
    """Return what a claim's knowledge is kept under."""
    return claim.job.id, claim.segment, claim.attempt


class Holds:
    """The ended nodes per segment held. Used by the writer's thread alone."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ended: dict[Key, set[str | None]] = {}

    def ended(self, claim: Claim) -> set[str | None] | None:
        """Return the nodes that have ended, where that is known."""
        return self._ended.get(key_of(claim))

    def keep(self, key: Key, known: set[str | None], fresh: set[str | None]) -> None:
        """Take note of further nodes that have ended, now that this is committed."""
        known |= fresh
        self._ended[key] = known

    def drop(self, key: Key) -> None:
        """Forget a segment that is held no longer."""
        self._ended.pop(key, None)
