"""How a run's events become records, and what waits for these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from millstream.events.memory import MemoryEventLog
from millstream.execution.recorder import Recorder
from millstream.ledger.base import MAIN, Claim, Ledger
from millstream.model.event import Draft
from millstream.model.job import JobRecord, JobState


class SlowLedger:
    """Takes records, and answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Draft], Callable[..., None]]] = []

    def record(self, _claim: Claim, drafts: Sequence[Draft], _end: object, done: Callable[..., None]) -> None:
        self.asked.append((drafts, done))

    def answer(self, first: int) -> None:
        """Record the oldest of what is asked, from a number on."""
        drafts, done = self.asked.pop(0)
        done(first, drafts)


@pytest.fixture
def ledger() -> SlowLedger:
    return SlowLedger()


async def test_what_waits_for_two_records_goes_on_twice_though_others_recorded_before_both(ledger: SlowLedger) -> None:
    job = JobRecord(id="j", flow="f", version="v", graph="g", state=JobState.RUNNING, created_at=0.0)
    claim = Claim(job=job, segment=MAIN, attempt=1, holder="me", head=1)
    news: list[None] = []
    recorder = Recorder(claim, cast("Ledger", ledger), MemoryEventLog(), lambda: None, lambda: news.append(None))
    resumed: list[Sequence[Any]] = []
    for place in ("a", "b"):
        recorder.put((True, "noted", 0.0, place, None))
        assert recorder.hold([place], resumed.append), "each record has a first one"
        recorder.flush()
    ledger.answer(3)  # 2 is another process's
    ledger.answer(4)
    assert (resumed, len(news)) == ([], 2)
    recorder.caught_up(4)
    assert resumed == [["a"], ["b"]]
