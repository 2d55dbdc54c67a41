"""The checker of histories finds a fault of each kind that is put into a good history, and none in the good one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from millstream.testing.history import (
    Began,
    CancelAnswered,
    ChangeRow,
    ClaimRow,
    Dump,
    EventRow,
    History,
    JobRow,
    LeftOver,
    Looked,
    ObservationLog,
    Observed,
    Seen,
    SegmentRow,
    StreamEnded,
    StreamOpened,
    Submitted,
    digest,
    merge,
)
from millstream.testing.invariants import INVARIANTS, violations

FIRST, SECOND = 11, 22


def events() -> Iterable[EventRow]:
    """`a >> b` with `b` tried twice: process 11 dies in b's first attempt, process 22 goes on; another is cancelled."""
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ("j", "planned", {}),
        ("j", "started", {"attempt": 1}),
        ("j", "node_succeeded", {"node": "a", "attempt": 1, "mark": "a1"}),
        ("j", "started", {"attempt": 2}),
        ("j", "node_retried", {"node": "b", "attempt": 1, "mark": "b2"}),
        ("j", "node_succeeded", {"node": "b", "attempt": 2, "mark": "b3"}),
        ("j", "ended", {"state": "succeeded"}),
        ("c", "planned", {}),
        ("c", "ended", {"state": "cancelled"}),
    ]
    seqs = {"j": 0, "c": 0}
    for job, kind, more in rows:
        seqs[job] += 1
        yield EventRow(job=job, seq=seqs[job], type=kind, digest=f"{job}{seqs[job]}", **more)


def began(node: str, attempt: int, pid: int, mark: str, at: float, **more: Any) -> Began:
    return Began(job="j", node=node, attempt=attempt, pid=pid, mark=mark, at=at, **more)


def good() -> History:
    rows = tuple(events())
    read = [Seen(job=row.job, reader="r", seq=row.seq, type=row.type, digest=row.digest) for row in rows]
    return History(
        (
            Submitted(job="j", key="k", body="x"),
            Submitted(job="c"),
            StreamOpened(job="j", reader="r"),
            *read,
            StreamEnded(job="j", reader="r"),
            began("a", 1, FIRST, "a1", 1.0),
            began("b", 1, FIRST, "b1", 2.0, most=2, reads=("a1",)),
            began("b", 1, SECOND, "b2", 3.0, most=2, reads=("a1",)),
            began("b", 2, SECOND, "b3", 4.0, most=2, reads=("a1",)),
            Looked(job="j", state="running"),
            Looked(job="j", state="succeeded", result="7"),
            CancelAnswered(job="c", state="cancelled", at=5.0),
        ),
        Dump(
            jobs=(
                JobRow(id="j", state="succeeded", next_seq=8, key="k", result="7"),
                JobRow(id="c", state="cancelled", next_seq=3, cancel_requested=True),
            ),
            events=rows,
            claims=(
                ClaimRow(job="j", attempt=1, pid=FIRST, head=1),
                ClaimRow(job="j", attempt=2, pid=SECOND, head=3),
            ),
            segments=(SegmentRow(job="j", state="done"),),
        ),
    )


@dataclass
class Change:
    """A fault: what is added to the good history, and which of its parts become others."""

    added: tuple[Observed, ...] = ()
    dump: Callable[[Dump], Dump] = lambda dump: dump
    seen: Callable[[Observed], Observed | None] = lambda one: one

    def made(self) -> History:
        history = good()
        kept = [other for one in history.seen if (other := self.seen(one)) is not None]
        return History((*kept, *self.added), self.dump(history.dump))


def job(**changes: Any) -> Callable[[Dump], Dump]:
    return lambda dump: replace(dump, jobs=(replace(dump.jobs[0], **changes), *dump.jobs[1:]))


def event(number: int, **changes: Any) -> Callable[[Dump], Dump]:
    return lambda dump: replace(
        dump, events=tuple(replace(e, **changes) if (e.job, e.seq) == ("j", number) else e for e in dump.events)
    )


def without_event(seq: int) -> Callable[[Dump], Dump]:
    return lambda dump: replace(dump, events=tuple(e for e in dump.events if (e.job, e.seq) != ("j", seq)))


def with_event(seq: int, kind: str, **more: Any) -> Callable[[Dump], Dump]:
    return lambda dump: job(next_seq=seq + 1)(
        replace(dump, events=(*dump.events, EventRow(job="j", seq=seq, type=kind, **more)))
    )


def changed(**fields: Any) -> Callable[[Dump], Dump]:
    return lambda dump: replace(dump, changes=(ChangeRow(job="j", **fields),))


def claims(*rows: ClaimRow) -> Callable[[Dump], Dump]:
    return lambda dump: replace(dump, claims=rows)


def effect(mark: str, **changes: Any) -> Callable[[Observed], Observed]:
    return lambda one: replace(one, **changes) if isinstance(one, Began) and one.mark == mark else one


def reading(seq: int, **changes: Any) -> Callable[[Observed], Observed | None]:
    def change(one: Observed) -> Observed | None:
        if not isinstance(one, Seen) or (one.job, one.seq) != ("j", seq):
            return one
        return replace(one, **changes) if changes else None

    return change


def also(**fields: Any) -> Observed:
    """Return what another reader, who began at the third event, was given."""
    return Seen(**{"job": "j", "reader": "late", "type": "node_succeeded", "digest": "j3", **fields})


FAULTS = {
    "I1 a job is lost": Change(added=(Submitted(job="gone"),)),
    "I1 a job is not found": Change(added=(Looked(job="c", state=None),)),
    "I2 a job never ends": Change(dump=job(state="running")),
    "I3 a key makes two jobs": Change(added=(Submitted(job="c", key="k", body="x"),)),
    "I3 a second job has the key": Change(
        dump=lambda dump: replace(dump, jobs=tuple(replace(row, key="k") for row in dump.jobs))
    ),
    "I3 a key is taken with another body": Change(added=(Submitted(job="j", key="k", body="y"),)),
    "I4 a number is missing": Change(dump=without_event(5)),
    "I4 a number is there twice": Change(dump=event(5, seq=4)),
    "I4 a number was given to nothing": Change(dump=job(next_seq=9)),
    "I5 something comes after the end": Change(dump=with_event(8, "progress")),
    "I5 there are two ends": Change(dump=with_event(8, "ended", state="succeeded")),
    "I5 the end tells another state": Change(dump=event(7, state="failed")),
    "I5 a job ends without telling": Change(dump=without_event(7)),
    "I5 a final state is left": Change(added=(Looked(job="j", state="running"),)),
    "I5 a final state was left, in between": Change(dump=changed(before="failed", after="running")),
    "I5 an end was not durable": Change(added=(Looked(job="c", state="failed"),)),
    "I6 a reader misses an event": Change(seen=reading(3)),
    "I6 a reader misses the beginning": Change(seen=reading(1)),
    "I6 a reader is given an event twice": Change(added=(also(seq=3), also(seq=3))),
    "I6 a reader is led backwards": Change(added=(also(seq=3), also(seq=2, type="started", digest="j2"))),
    "I6 volatile events are told out of order": Change(
        added=(also(seq=3), also(seq=3, k=2, type="log"), also(seq=3, k=1, type="log"))
    ),
    "I6 a stream ends too early": Change(added=(also(seq=3), StreamEnded(job="j", reader="late"))),
    "I7 an event was not durable": Change(dump=without_event(7)),
    "I7 an event was changed in the ledger": Change(dump=changed(seq=2)),
    "I7 an event becomes another type": Change(seen=reading(3, type="node_failed")),
    "I7 an event says something else": Change(seen=reading(3, digest="other")),
    "I8 a node ends twice": Change(dump=with_event(8, "node_failed", node="a")),
    "I8 a result comes from nowhere": Change(dump=event(3, mark="never")),
    "I8 a result is another node's": Change(dump=event(3, node="z")),
    "I8 a result is another attempt's": Change(dump=event(6, attempt=1)),
    "I9 a node starts once more": Change(added=(began("a", 1, SECOND, "a2", 3.5), began("a", 1, SECOND, "a3", 3.6))),
    "I9 a node has too many attempts": Change(seen=effect("b1", attempt=3)),
    "I9 a node that must run once runs twice": Change(seen=effect("b1", is_once=True)),
    "I10 an old holder records a result": Change(seen=effect("b3", pid=FIRST)),
    "I10 an old holder records a retry": Change(seen=effect("b2", pid=FIRST)),
    "I10 an old claim begins": Change(dump=event(4, attempt=1)),
    "I10 a record without a claim": Change(dump=claims()),
    "I10 a claim repeats its number": Change(
        dump=claims(ClaimRow(job="j", attempt=1, pid=FIRST, head=1), ClaimRow(job="j", attempt=1, pid=SECOND, head=3))
    ),
    "I11 a result becomes another": Change(added=(Looked(job="j", state="succeeded", result="8"),)),
    "I12 a cancel was not true": Change(added=(CancelAnswered(job="j", state="cancelled", at=6.0),)),
    "I12 a cancel was forgotten": Change(added=(CancelAnswered(job="j", state="running", at=2.5),)),
    "I12 a node begins after it": Change(added=(Began(job="c", node="x", attempt=1, pid=FIRST, mark="late", at=5.5),)),
    "I13 a node read what was never recorded": Change(seen=effect("b3", reads=("a0",))),
    "I13 a node was recorded before what it read": Change(seen=effect("a1", reads=("b3",))),
    "I15 a segment is still held": Change(
        dump=lambda dump: replace(dump, segments=(SegmentRow(job="j", state="running", pid=SECOND),))
    ),
    "I15 a segment is still queued": Change(
        dump=lambda dump: replace(dump, segments=(SegmentRow(job="j", state="queued"),))
    ),
    "I15 something is left over": Change(added=(LeftOver(what="threads", count=2),)),
}


def with_sides(*more: tuple[str, dict[str, Any]], claims: tuple[ClaimRow, ...] = (), pid: int = SECOND) -> History:
    """Return the history of a job whose node `b` was handed out, and run by another process."""
    told: list[tuple[str, dict[str, Any]]] = [
        ("planned", {}),
        ("started", {"attempt": 1}),
        ("handed_out", {"segment": 2, "nodes": ("b",)}),
        ("node_succeeded", {"node": "a", "attempt": 1, "mark": "a1"}),
        *more,
        ("node_succeeded", {"node": "b", "attempt": 1, "mark": "b1"}),
        ("ended", {"state": "succeeded"}),
    ]
    rows = tuple(EventRow(job="j", seq=seq, type=kind, **fields) for seq, (kind, fields) in enumerate(told, 1))
    held = (
        ClaimRow(job="j", attempt=1, pid=FIRST, head=1),
        ClaimRow(job="j", segment=2, attempt=1, pid=SECOND, head=3),
    )
    return History(
        (began("a", 1, FIRST, "a1", 1.0), began("b", 1, pid, "b1", 2.0)),
        Dump(jobs=(JobRow(id="j", state="succeeded", next_seq=len(rows) + 1),), events=rows, claims=(*held, *claims)),
    )


def test_what_a_side_segment_records_beside_the_main_one_is_clean() -> None:
    assert violations(with_sides()) == []


def test_a_node_that_is_out_is_not_recorded_by_the_main_segment() -> None:
    assert [found.invariant for found in violations(with_sides(pid=FIRST))] == ["I10"]


def test_a_node_that_was_taken_back_is_recorded_by_the_main_segment() -> None:
    assert violations(with_sides(("taken_back", {"segment": 2}), pid=FIRST)) == []


def test_what_grew_in_a_node_that_is_out_is_recorded_by_either() -> None:
    for pid in (FIRST, SECOND):
        inner = ("node_succeeded", {"node": "b[1]/c", "attempt": 1, "mark": "c1"})
        history = with_sides(inner)
        seen = (*history.seen, began("b[1]/c", 1, pid, "c1", 1.5))
        assert violations(replace(history, seen=seen)) == []


def test_only_deaths_in_its_own_segment_allow_a_node_to_start_again() -> None:
    history = with_sides()
    twice = replace(history, seen=(*history.seen, began("b", 1, SECOND, "b2", 2.5)))
    assert [found.invariant for found in violations(twice)] == ["I9"]
    for segment, expected in ((2, []), (1, ["I9"])):
        claim = ClaimRow(job="j", segment=segment, attempt=2, pid=SECOND if segment == 2 else FIRST, head=4)
        again = replace(twice, dump=with_sides(claims=(claim,)).dump)
        assert [found.invariant for found in violations(again)] == expected


def test_a_death_before_a_node_was_handed_out_allows_it_to_start_again() -> None:
    begun_here = replace(with_sides(), seen=(*with_sides().seen, began("b", 1, FIRST, "b0", 0.5)))
    assert [found.invariant for found in violations(begun_here)] == ["I9"]
    for head, expected in ((2, []), (4, ["I9"])):
        claim = ClaimRow(job="j", attempt=2, pid=FIRST, head=head)
        again = replace(begun_here, dump=with_sides(claims=(claim,)).dump)
        assert [found.invariant for found in violations(again)] == expected


def test_a_good_history_is_clean() -> None:
    assert violations(good()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_under_its_invariant(fault: str) -> None:
    found = violations(FAULTS[fault].made())
    assert fault.split(maxsplit=1)[0] in {violation.invariant for violation in found}, found


def test_every_invariant_has_a_fault_here() -> None:
    assert {fault.split(maxsplit=1)[0] for fault in FAULTS} == set(INVARIANTS)


def test_a_volatile_event_may_be_missing() -> None:
    lost = Change(added=(also(seq=3), also(seq=3, k=2, type="log"), also(seq=4, type="started", digest="j4")))
    assert violations(lost.made()) == []


def test_a_submit_without_an_answer_may_have_happened_or_not() -> None:
    unknown = Change(added=(Submitted(job="nobody knows", outcome="unknown"), Submitted(job="c", outcome="unknown")))
    assert violations(unknown.made()) == []


def test_an_observation_is_read_as_it_was_logged(tmp_path: Path) -> None:
    log, other = ObservationLog(tmp_path / "log"), ObservationLog(tmp_path / "none")
    for one in good().seen:
        log.put(one)
    assert merge(log.read(), other.read()) == good().seen


def test_digests_tell_values_apart_and_nothing_else() -> None:
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert len({digest(1), digest("1"), digest(None), digest([1]), digest(1, 2)}) == 5
