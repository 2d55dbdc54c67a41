"""Relaxed durability: records that are answered before they are committed, with the numbers that they will have."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.ledger.base import Claim, End, FencedError
from millstream.ledger.facts import ENDS
from millstream.ledger.sides import HANDED_OUT
from millstream.model.event import Draft

_COMMITTED = frozenset({"waiting", "node_started", HANDED_OUT})


class Ahead:
    """A segment whose records are answered before they are committed.

    Only its holder gives numbers to its job's events until a node waits for an answer, which anybody may give, or is
    handed out; from then on, and where the segment was claimed before, records are answered when they are committed.
    """

    __slots__ = ("ended", "is_over", "next_seq")

    def __init__(self, next_seq: int, *, is_over: bool = False) -> None:
        """Begin behind the job's last event."""
        self.next_seq = next_seq
        self.is_over = is_over
        self.ended: set[str | None] = set()

    def take(self, drafts: Sequence[Draft]) -> tuple[int, list[Draft]]:
        """Return the number of the first durable draft, and the drafts that count."""
        first, kept = self.next_seq, []
        for draft in drafts:
            if draft[1] in ENDS:
                if draft[3] in self.ended:
                    continue
                self.ended.add(draft[3])
            kept.append(draft)
            self.next_seq += draft[0]
        return first, kept

    def forget(self, outcome: int | FencedError, _kept: Sequence[Draft]) -> None:
        """Take what became of a record that was answered before."""
        self.is_over = self.is_over or isinstance(outcome, FencedError)


def may_begin(claim: Claim) -> bool:
    """Return whether the records of a claim may be answered before they are committed."""
    return claim.job.durability == "relaxed" and claim.attempt == 1 and claim.head == 1


def may_go_on(drafts: Sequence[Draft], end: End | None) -> bool:
    """Return whether a record may be answered before it is committed.

    Not one that ends a segment, lets it wait or hands out nodes, nor the start of what must run only once.
    """
    return end is None and not any(draft[0] and draft[1] in _COMMITTED for draft in drafts)
