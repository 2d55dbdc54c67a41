"""One job in the memory of a process, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from millstream.ledger.base import MAIN, JobGraph
from millstream.ledger.facts import ENDS
from millstream.ledger.sides import HANDED_OUT, SIDES, has_sides, named
from millstream.ledger.standing import Standing
from millstream.model.event import Draft
from millstream.model.job import JobRecord
from millstream.model.names import claim_key


class Remembered:
    """A job.

    Args:
        job: As it was submitted.
        graph: What it executes.
        drafts: Its first events.

    Attributes:
        job: As others see it.
        graph: See above.
        events: Its durable events, from number 1 on.
        standing: Where it stands, with its segments.
        ended: The nodes that have ended.
        ordered: Of each side segment, the number of the event that made it and its queue.
    """

    __slots__ = ("ended", "events", "graph", "job", "ordered", "standing")

    def __init__(self, job: JobRecord, graph: JobGraph, drafts: Sequence[Draft]) -> None:
        """Have no segment yet."""
        self.job = job
        self.graph = graph
        self.standing = Standing((job.id, job.state.value, job.reason, job.cancel_requested, len(drafts) + 1))
        self.events = list(drafts)
        self.ended = {draft[3] for draft in drafts if draft[1] in ENDS}
        self.ordered: dict[int, tuple[int, str | None]] = {}

    def queue(self, segment: int) -> str | None:
        """Return the queue of a segment."""
        return self.job.queue if segment == MAIN else self.ordered[segment][1]

    def is_wanted(self, segment: int, flows: Collection[str] | None, queues: Collection[str | None] | None) -> bool:
        """Whether a segment is of these flows and queues."""
        is_known = flows is None or claim_key(self.job.flow) in flows
        return is_known and (queues is None or self.queue(segment) in queues)

    def move_sides(self, drafts: Sequence[Draft]) -> None:
        """Make and end side segments, as drafts of the main segment say; nothing moves where one cannot be followed.

        Raises:
            ValueError: One makes a segment that there is, or ends one that there is not.
        """
        if not has_sides(drafts):
            return
        known = set(self.standing.segments)
        for draft in drafts:
            if draft[1] in SIDES:
                self.standing.check_side(known, named(draft)[0], is_new=draft[1] == HANDED_OUT)
        seq = len(self.events)
        for draft in drafts:
            seq += draft[0]
            if draft[1] in SIDES:
                segment, queue = named(draft)
                if draft[1] == HANDED_OUT:
                    self.standing.hand_out(segment)
                    self.ordered[segment] = seq, queue
                else:
                    self.standing.take_back(segment)

    def take(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Return the drafts that count: all but the ends of nodes that have ended; nearly always there is none."""
        paths = [draft[3] for draft in drafts if draft[1] in ENDS]
        fresh = set(paths)
        if len(fresh) == len(paths) and self.ended.isdisjoint(fresh):
            self.ended |= fresh
            return list(drafts)
        kept = []
        for draft in drafts:
            if draft[1] in ENDS:
                if draft[3] in self.ended:
                    continue
                self.ended.add(draft[3])
            kept.append(draft)
        return kept
