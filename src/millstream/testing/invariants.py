"""What must hold of every history, whatever was killed in it: one function for each invariant, and their sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

from millstream.model.event import TERMINAL
from millstream.testing.hands import MAIN, Hands
from millstream.testing.history import (
    FINAL,
    Began,
    CancelAnswered,
    ClaimRow,
    EventRow,
    History,
    JobRow,
    LeftOver,
    Looked,
    Seen,
    StreamEnded,
    StreamOpened,
    Submitted,
)

T = TypeVar("T")

NODE_ENDS = frozenset({"node_succeeded", "node_failed", "node_skipped", "node_upstream_failed", "node_cancelled"})


class Violation(NamedTuple):
    """An invariant that does not hold.

    Attributes:
        invariant: Its id, `I1` to `I15`, as in the page of promises.
        job: The job, where it is about one.
        what: What was seen, in words.
    """

    invariant: str
    job: str
    what: str


class _View:
    """A history, sorted for looking things up."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.jobs: dict[str, JobRow] = {row.id: row for row in history.dump.jobs}
        self.events: dict[str, list[EventRow]] = defaultdict(list)
        for event in sorted(history.dump.events, key=lambda row: (row.job, row.seq)):
            self.events[event.job].append(event)
        self.claims: dict[str, list[ClaimRow]] = defaultdict(list)
        for claim in sorted(history.dump.claims, key=lambda row: (row.job, row.segment, row.attempt)):
            self.claims[claim.job].append(claim)
        self.hands = {job: Hands(events) for job, events in self.events.items()}
        self.effects: dict[str, Began] = {effect.mark: effect for effect in self.of(Began)}
        self.ends: dict[tuple[str, str], list[EventRow]] = defaultdict(list)
        for event in history.dump.events:
            if event.type in NODE_ENDS and event.node is not None:
                self.ends[event.job, event.node].append(event)

    def of(self, kind: type[T]) -> list[T]:
        """Return the observations of a kind."""
        return [one for one in self.history.seen if isinstance(one, kind)]

    def readings(self) -> dict[tuple[str, str], list[Seen]]:
        """Return what each reader was given, in its order, behind the place at which it began."""
        found: dict[tuple[str, str], list[Seen]] = defaultdict(list)
        for one in self.history.seen:
            if isinstance(one, StreamOpened):
                found[one.job, one.reader].append(Seen(job=one.job, reader=one.reader, seq=one.seq, k=one.k, type=""))
            elif isinstance(one, Seen):
                found[one.job, one.reader].append(one)
        return found

    def claims_at(self, event: EventRow) -> list[ClaimRow]:
        """Return the claims in force when an event was recorded, of the segments that may have recorded it.

        Of each that is the last claim made before.
        """
        segments = self.hands[event.job].at(event)
        last = {
            claim.segment: claim
            for claim in self.claims[event.job]
            if claim.head < event.seq and claim.segment in segments
        }
        return list(last.values())


_Found = Iterator[tuple[str, str]]


def _accepted_jobs_are_there(view: _View) -> _Found:
    accepted = {one.job for one in view.of(Submitted) if one.outcome == "accepted"}
    yield from ((job, "it was accepted, and the ledger does not have it") for job in accepted - view.jobs.keys())
    for look in view.of(Looked):
        if look.state is None and look.job in accepted:
            yield look.job, "it was accepted, and a client was told that there is no such job"


def _accepted_jobs_end(view: _View) -> _Found:
    for row in view.jobs.values():
        if row.state not in FINAL:
            yield row.id, f"at rest it is still {row.state}"


def _a_key_makes_one_job(view: _View) -> _Found:
    jobs: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, set[str]] = defaultdict(set)
    for one in view.of(Submitted):
        if one.key is not None and one.outcome == "accepted":
            jobs[one.key].add(one.job)
            bodies[one.key].add(one.body)
    for row in view.jobs.values():
        if row.key is not None:
            jobs[row.key].add(row.id)
    for key, ids in jobs.items():
        if len(ids) > 1:
            yield min(ids), f"the key {key!r} made {len(ids)} jobs"
        if len(bodies[key]) > 1:
            yield min(ids), f"the key {key!r} was accepted with {len(bodies[key])} different bodies"


def _events_are_numbered_densely(view: _View) -> _Found:
    for job, events in view.events.items():
        numbers = [event.seq for event in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield job, f"its events are numbered {_short(numbers)}"
    for row in view.jobs.values():
        last = view.events[row.id][-1].seq if view.events[row.id] else 0
        if row.next_seq != last + 1:
            yield row.id, f"its next event would be {row.next_seq}, after {last}"


def _one_terminal_event_comes_last(view: _View) -> _Found:
    for row in view.jobs.values():
        events = view.events[row.id]
        told = [event.state for event in events if event.type == TERMINAL]
        if told != ([row.state] if row.state in FINAL else []):
            yield row.id, f"it is {row.state}, and its terminal events tell {told}"
        elif told and events[-1].type != TERMINAL:
            yield row.id, f"after its terminal event comes {events[-1].type}"


def _final_states_stay(view: _View) -> _Found:
    for change in view.history.dump.changes:
        if change.seq is None and change.before in FINAL and change.after != change.before:
            yield change.job, f"it was {change.before}, which is final, and became {change.after}"
    final: dict[str, str] = {}
    for look in view.of(Looked):
        before = final.get(look.job)
        if before is not None and look.state != before:
            yield look.job, f"it was {before}, which is final, and then {look.state}"
        if look.state in FINAL:
            final[look.job] = look.state
            if look.job in view.jobs and view.jobs[look.job].state != look.state:
                yield look.job, f"a client was told {look.state}, but it is {view.jobs[look.job].state}"


def _readers_miss_nothing(view: _View) -> _Found:
    for (job, reader), seen in view.readings().items():
        for one, other in pairwise(seen):
            is_next = other.seq == one.seq + 1 if other.k == 0 else (other.seq == one.seq and other.k > one.k)
            if not is_next:
                yield job, f"after {one.seq}-{one.k} reader {reader} was given {other.seq}-{other.k}"
    last = {key: seen[-1] for key, seen in view.readings().items()}
    for end in view.of(StreamEnded):
        seen_last = last.get((end.job, end.reader))
        if seen_last is not None and seen_last.type != TERMINAL:
            yield end.job, f"the stream of reader {end.reader} ended behind {seen_last.seq}-{seen_last.k}"


def _what_readers_saw_is_durable(view: _View) -> _Found:
    for change in view.history.dump.changes:
        if change.seq is not None:
            yield change.job, f"its event {change.seq} was changed"
    for seen in (seen for seen in view.of(Seen) if seen.k == 0):
        events = view.events[seen.job]
        event = events[seen.seq - 1] if 0 < seen.seq <= len(events) else None
        if event is None or event.seq != seen.seq:
            yield seen.job, f"a reader saw event {seen.seq}, {seen.type}, which the ledger does not have"
        elif (event.type, event.digest) != (seen.type, seen.digest):
            yield seen.job, f"a reader saw {seen.type} as event {seen.seq}, which is now another {event.type}"


def _a_node_has_one_result(view: _View) -> _Found:
    for (job, node), ends in view.ends.items():
        if len(ends) > 1:
            yield job, f"node {node} ended {len(ends)} times"
    for event in view.history.dump.events:
        if event.mark is None:
            continue
        effect = view.effects.get(event.mark)
        if effect is None:
            yield event.job, f"event {event.seq} tells of an effect that nobody had"
        elif (effect.job, effect.node, effect.attempt) != (event.job, event.node, event.attempt):
            done = f"attempt {effect.attempt} of {effect.node}"
            yield event.job, f"event {event.seq} tells of {event.node} what {done} did"


def _nodes_start_as_often_as_allowed(view: _View) -> _Found:
    starts: dict[tuple[str, str], list[Began]] = defaultdict(list)
    for effect in view.effects.values():
        starts[effect.job, effect.node].append(effect)
    for (job, node), effects in starts.items():
        # A process that claimed the job and did not end it may have had the effect without recording it.
        ran_in = view.hands[job].ever(node) if job in view.hands else frozenset({MAIN})
        since = view.hands[job].since(node) if job in view.hands else None
        lost = max(0, sum(claim.segment in ran_in for claim in view.claims[job]) - 1)
        if since is not None and MAIN not in ran_in:  # those before the one under which it was handed out
            lost += max(0, sum(claim.segment == MAIN and claim.head < since for claim in view.claims[job]) - 1)
        most = 1 if effects[0].is_once else effects[0].most + lost
        if len(effects) > most:
            yield job, f"node {node} started {len(effects)} times, where {most} are allowed"
        attempts = {effect.attempt for effect in effects}
        if len(attempts) > effects[0].most:
            yield job, f"node {node} had {len(attempts)} attempts, where its policy allows {effects[0].most}"


def _old_claims_write_nothing(view: _View) -> _Found:
    for claims in view.claims.values():
        for one, other in pairwise(claims):
            if other.segment == one.segment and (other.attempt != one.attempt + 1 or other.head < one.head):
                yield one.job, f"claim {other.attempt} at {other.head} follows claim {one.attempt} at {one.head}"
    for event in view.history.dump.events:
        effect = view.effects.get(event.mark or "")
        if effect is None and event.type != "started":
            continue
        held = view.claims_at(event)
        if not held:
            yield event.job, f"event {event.seq}, {event.type}, was recorded under no claim"
        elif event.type == "started" and event.attempt not in [claim.attempt for claim in held]:
            yield event.job, f"event {event.seq} was recorded under claim {event.attempt} while {_told(held)} held"
        elif effect is not None and effect.pid not in [claim.pid for claim in held]:
            yield event.job, f"event {event.seq} tells what process {effect.pid} did, while {_told(held)} held"


def _told(claims: list[ClaimRow]) -> str:
    return ", ".join(f"claim {claim.attempt} of segment {claim.segment} by {claim.pid}" for claim in claims)


def _results_stay_the_same(view: _View) -> _Found:
    for look in view.of(Looked):
        row = view.jobs.get(look.job)
        if look.state == "succeeded" and row is not None and look.result != row.result:
            yield look.job, f"a client read the result {look.result}, where the ledger has {row.result}"


def _cancels_tell_the_truth(view: _View) -> _Found:
    answers = [answer for answer in view.of(CancelAnswered) if answer.job in view.jobs]
    for answer in answers:
        row = view.jobs[answer.job]
        if answer.state in FINAL and answer.state != row.state:
            yield row.id, f"a cancel was told {answer.state}, but it is {row.state}"
        elif answer.state not in FINAL and not row.cancel_requested:
            yield row.id, f"a cancel was told {answer.state}, and the ledger knows of no cancel"
    ended = {answer.job: answer.at for answer in answers if answer.state == "cancelled"}
    for effect in view.effects.values():
        if effect.at > ended.get(effect.job, effect.at):
            yield effect.job, f"node {effect.node} began after a cancel was told that the job is cancelled"


def _nodes_read_what_was_committed(view: _View) -> _Found:
    recorded = {event.mark: event.seq for event in view.history.dump.events if event.type == "node_succeeded"}
    for effect in view.effects.values():
        own = recorded.get(effect.mark)
        for mark in effect.reads:
            if mark not in recorded:
                yield effect.job, f"node {effect.node} read a result that was never recorded"
            elif own is not None and recorded[mark] > own:
                yield effect.job, f"the result of node {effect.node} was recorded before one that it had read"


def _nothing_is_left_at_rest(view: _View) -> _Found:
    for segment in view.history.dump.segments:
        if segment.pid is not None or segment.state in ("queued", "running"):
            yield segment.job, f"its segment {segment.segment} is {segment.state}, held by {segment.pid}"
    for left in view.of(LeftOver):
        if left.count > 0:
            yield left.job, f"{left.count} {left.what} are left"


INVARIANTS: dict[str, Callable[[_View], Iterable[tuple[str, str]]]] = {
    "I1": _accepted_jobs_are_there,
    "I2": _accepted_jobs_end,
    "I3": _a_key_makes_one_job,
    "I4": _events_are_numbered_densely,
    "I5": lambda view: chain(_one_terminal_event_comes_last(view), _final_states_stay(view)),
    "I6": _readers_miss_nothing,
    "I7": _what_readers_saw_is_durable,
    "I8": _a_node_has_one_result,
    "I9": _nodes_start_as_often_as_allowed,
    "I10": _old_claims_write_nothing,
    "I11": _results_stay_the_same,
    "I12": _cancels_tell_the_truth,
    "I13": _nodes_read_what_was_committed,
    "I15": _nothing_is_left_at_rest,
}
"""The invariants that are judged here, by their ids."""


def violations(history: History) -> list[Violation]:
    """Return every violation of an invariant in a history that was driven to rest.

    Example:
        >>> from millstream.testing.history import Dump, History, Submitted
        >>> violations(History((Submitted(job="j1"),), Dump()))
        [Violation(invariant='I1', job='j1', what='it was accepted, and the ledger does not have it')]
    """
    view = _View(history)
    return [Violation(name, job, what) for name, find in INVARIANTS.items() for job, what in find(view)]


def _short(numbers: list[int]) -> str:
    gap = next((i for i, number in enumerate(numbers, 1) if number != i), len(numbers))
    return f"… {', '.join(map(str, numbers[max(0, gap - 3) : gap + 2]))} …"
