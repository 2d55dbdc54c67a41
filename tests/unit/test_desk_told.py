"""What is told of jobs does not depend on where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from millstream.desk import told
from millstream.model.event import Event
from millstream.model.failure import Failure
from millstream.model.value import Reference, decode_shown, encode


@dataclass
class Point:
    x: int
    y: int


@pytest.mark.parametrize(
    "value",
    ["a", 3, None, b"abc", (1, 2), {1: 2}, {3}, Point(1, 2), float("nan"), Failure(type="a", message="b")],
    ids=repr,
)
def test_an_event_is_told_alike_as_it_happens_and_from_the_ledger(value: Any) -> None:
    data = {"attempt": 1, "value": value}
    happening = Event(3, 0, "node_succeeded", 5.0, "a", data)
    recorded = Event(3, 0, "node_succeeded", 5.0, "a", decode_shown(encode(data)))
    assert msgspec.json.encode(told.event(happening)) == msgspec.json.encode(told.event(recorded))


def test_a_value_that_lies_apart_is_told_by_its_digest_and_size() -> None:
    event = Event(3, 0, "node_succeeded", 5.0, "a", {"value": Reference("ab", 9000)})
    assert msgspec.json.decode(msgspec.json.encode(told.event(event)))["data"] == {
        "value": {"digest": "ab", "size": 9000}
    }


def test_a_value_of_a_job_that_is_not_recorded_is_told_by_its_repr() -> None:
    event = Event(3, 0, "node_succeeded", 5.0, "a", {"value": lambda: 1})
    assert "<lambda>" in msgspec.json.decode(msgspec.json.encode(told.event(event)))["data"]["value"]
