"""What a run that goes on makes of the record."""

from typing import Any

import pytest

from millstream.engine.past import Due, Past
from millstream.errors import RecordMismatchError
from millstream.model.event import Draft, Event
from millstream.model.job import Decision, NodeState


def events(*told: tuple[str, str, Any]) -> list[Event]:
    return [Event(seq, 0, kind, float(seq), node, data) for seq, (kind, node, data) in enumerate(told, 1)]


def test_an_end_is_remembered_with_what_its_router_chose() -> None:
    past = Past(events(("routed", "way", {"label": "=7"}), ("node_succeeded", "way", {"attempt": 0, "value": "=7"})))
    assert (past.ends["way"].state, past.ends["way"].label, past.ends["way"].seq) == (NodeState.SUCCEEDED, "=7", 2)


def test_what_began_and_did_not_end_is_of_unknown_outcome() -> None:
    began = ("node_started", "pay", {"attempt": 1})
    assert Past(events(began)).begun == {"pay": 1}
    assert Past(events(began, ("node_succeeded", "pay", {"attempt": 1, "value": 1}))).begun == {}
    assert Past(events(began, ("node_retried", "pay", {"attempt": 1, "delay": 5.0}))).begun == {}


def test_a_question_does_not_tell_what_became_of_the_attempt_it_asks_about() -> None:
    asked = ("waiting", "pay", {"reason": "decision", "attempt": 1})
    past = Past(events(("node_started", "pay", {"attempt": 1}), asked))
    assert past.begun == {"pay": 1}
    assert past.waits == {"pay": asked[2]}


def test_a_decision_counts_for_the_attempt_that_it_was_asked_for_and_no_other() -> None:
    told = [
        ("node_started", "pay", {"attempt": 1}),
        ("waiting", "pay", {"reason": "decision", "attempt": 1}),
        ("answered", "pay", {"answer": Decision("repeat")}),
    ]
    assert Past(events(*told)).answers == {"pay": Decision("repeat")}
    again = Past(events(*told, ("node_started", "pay", {"attempt": 2})))
    assert (again.begun, again.answers, again.waits) == ({"pay": 2}, {}, {})


def test_a_retry_is_due_at_its_time() -> None:
    past = Past(events(("node_retried", "a", {"attempt": 2, "delay": 60.0})))
    assert past.retried == {"a": Due(3, 61.0, None, is_requeued=False)}


def test_only_what_the_record_does_not_have_is_put() -> None:
    past = Past(events(("expanded", "m", {"nodes": 3}), ("waiting", "w", {"reason": "timer", "until": 9.0})))
    taken: list[Draft] = []
    put = past.unknown(taken.append)
    put((True, "expanded", 0.0, "m", None))
    put((True, "expanded", 0.0, "n", None))
    put((True, "waiting", 0.0, "w", None))
    assert [(draft[1], draft[3]) for draft in taken] == [("expanded", "n"), ("waiting", "w")]


@pytest.mark.parametrize(("name", "arguments"), [("shop.pack", "aa"), ("shop.send", "bb")])
def test_a_call_must_be_the_recorded_one(name: str, arguments: str) -> None:
    past = Past(events(("expanded", "f#0", {"nodes": 1, "call": "shop.send", "arguments": "aa"})))
    past.check_call("f#0", "shop.send", "aa")
    past.check_call("f#0", "shop.send", None)
    past.check_call("f#1", name, arguments)
    with pytest.raises(RecordMismatchError, match="f#0"):
        past.check_call("f#0", name, arguments)
