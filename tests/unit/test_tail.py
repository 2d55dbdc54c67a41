"""Readers of jobs that run elsewhere: who is followed, how often, and what the log keeps of it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

import pytest

from millstream.errors import JobNotFoundError
from millstream.events import memory, tail
from millstream.events.memory import MemoryEventLog
from millstream.events.tail import Tail
from millstream.model.event import START, TERMINAL, Event


class Elsewhere:
    """A ledger in which other processes write, and which counts who asks."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[Event]] = {}
        self.asked: list[set[str]] = []

    def write(self, job_id: str, *kinds: str) -> None:
        events = self.jobs.setdefault(job_id, [])
        events += [Event(len(events) + i, 0, kind, 1.0) for i, kind in enumerate(kinds, 1)]

    async def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        self.asked.append(set(job_ids))
        return {job_id: len(self.jobs[job_id]) for job_id in job_ids if job_id in self.jobs}

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        if job_id not in self.jobs:
            raise JobNotFoundError
        return self.jobs[job_id][after : after + min(limit, 2)]


@asynccontextmanager
async def following(ledger: Elsewhere, log: MemoryEventLog, *here: str) -> AsyncIterator[Tail]:
    follower = Tail(ledger, log, lambda job_id: job_id in here)  # type: ignore[arg-type]

    async def follow() -> None:
        while True:
            await follower.follow()

    task = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(120):
            yield follower
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def kinds(log: MemoryEventLog, job_id: str) -> list[str]:
    return [event.type async for batch in log.read(job_id, START) for event in batch]


async def test_a_job_of_the_past_is_read_whole() -> None:
    ledger, log = Elsewhere(), MemoryEventLog()
    ledger.write("a", "planned", "started", "node_succeeded", TERMINAL)
    async with following(ledger, log):
        assert await kinds(log, "a") == ["planned", "started", "node_succeeded", TERMINAL]


async def test_a_running_job_is_followed_to_its_end_by_readers_and_waiters() -> None:
    ledger, log = Elsewhere(), MemoryEventLog()
    ledger.write("a", "planned")
    async with following(ledger, log) as follower:
        reading, waiting = asyncio.ensure_future(kinds(log, "a")), asyncio.ensure_future(log.wait_end("a"))
        while not log.head("a"):  # noqa: ASYNC110  it comes by itself
            await asyncio.sleep(0)
        ledger.write("a", "started", TERMINAL)
        follower.heard("a")
        assert await reading == ["planned", "started", TERMINAL]
        await waiting


async def test_nobody_is_asked_when_nobody_reads_and_one_statement_is_for_all() -> None:
    ledger, log = Elsewhere(), MemoryEventLog()
    for job_id in "abc":
        ledger.write(job_id, "planned", TERMINAL)
    async with following(ledger, log):
        await asyncio.sleep(0)
        assert ledger.asked == []
        await asyncio.gather(*(kinds(log, job_id) for job_id in "abc"))
    assert ledger.asked[0] == {"a", "b", "c"}


async def test_what_runs_here_is_left_to_who_runs_it() -> None:
    ledger, log = Elsewhere(), MemoryEventLog()
    ledger.write("mine", "planned", TERMINAL)
    ledger.write("other", "planned", TERMINAL)
    async with following(ledger, log, "mine"):
        reading = asyncio.ensure_future(kinds(log, "mine"))
        await kinds(log, "other")
        assert not reading.done()
        log.append("mine", 1, [(True, "planned", 1.0, None, None), (True, TERMINAL, 1.0, None, None)])
        assert await reading == ["planned", TERMINAL]
    assert ledger.asked == [{"other"}]


async def test_what_others_tell_of_is_read_and_nothing_else_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "FIRST_WAIT", 1000.0)
    monkeypatch.setattr(tail, "LAST_WAIT", 1000.0)
    ledger, log = Elsewhere(), MemoryEventLog()
    for job_id in "ab":
        ledger.write(job_id, "planned")
    async with following(ledger, log) as follower:
        reading, other = asyncio.ensure_future(kinds(log, "a")), asyncio.ensure_future(kinds(log, "b"))
        while not (log.head("a") and log.head("b")):  # noqa: ASYNC110  it comes by itself
            await asyncio.sleep(0)
        asked = len(ledger.asked)
        ledger.write("a", TERMINAL)
        follower.heard("a")
        assert await reading == ["planned", TERMINAL]
        assert len(ledger.asked) == asked
        other.cancel()


async def test_readers_of_a_job_that_was_forgotten_end() -> None:
    ledger, log = Elsewhere(), MemoryEventLog()
    async with following(ledger, log):
        assert await kinds(log, "gone") == []


# ----------------------------------------------------------------------------------------------- what the log keeps
async def test_what_can_be_had_again_is_forgotten_beyond_the_newest() -> None:
    log = MemoryEventLog(must_keep=lambda job_id: job_id.startswith("only here"))
    reading = asyncio.ensure_future(kinds(log, "read"))
    await asyncio.sleep(0)
    for i in range(10 * memory.KEPT_STREAMS):
        log.append(f"job {i}", 1, [(True, TERMINAL, 1.0, None, None)])
        if i % 1000 == 0:
            log.append(f"only here {i}", 1, [(True, TERMINAL, 1.0, None, None)])
    assert len(log._streams) <= 3 * memory.KEPT_STREAMS + 11
    assert all(log.head(f"only here {i}") for i in range(0, 10 * memory.KEPT_STREAMS, 1000))
    assert log.head(f"job {10 * memory.KEPT_STREAMS - 1}")
    log.append("read", 1, [(True, TERMINAL, 1.0, None, None)])
    assert await reading == [TERMINAL]


async def test_readers_that_go_leave_nothing_behind() -> None:
    log = MemoryEventLog()
    for _ in range(3):
        reading = asyncio.ensure_future(log.wait_end("a"))
        await asyncio.sleep(0)
        assert log.watched() == {"a": 0}
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    assert log.watched() == {}
    assert log._streams["a"].waiters == []
