"""The suite every event log passes: what `EventLog` promises in words, as tests.

Example:
    class TestRedisEventLog(EventLogContract):
        @asynccontextmanager
        async def open(self):
            async with RedisEventLog("redis://localhost/9") as log:
                yield log
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import anyio
import pytest

from millstream.clock import new_id
from millstream.events.base import EventLog
from millstream.model.event import START, TERMINAL, Cursor, Draft, Event

T = TypeVar("T")

END: Draft = (True, TERMINAL, 9.0, None, {"state": "succeeded", "reason": None})


class EventLogContract:
    """Subclass it as `Test…` and override `open`; each test gets an event log of its own.

    Attributes:
        is_told_at_once: Whether `append` answers what the log then has. One that hands events on learns of holes later,
            and fills them from the ledger (`recorded`); then what readers see is all that the suite looks at.
        recorded: What the ledger has: each durable event that was appended behind those that it had.
    """

    is_told_at_once = True
    recorded: RecordedEvents

    def open(self) -> AbstractAsyncContextManager[EventLog]:
        """Return a context manager that gives a fresh, empty event log."""
        raise NotImplementedError

    @pytest.fixture
    async def log(self) -> AsyncIterator[EventLog]:
        """The event log under test; what is appended is recorded first, as it always is."""
        self.recorded = RecordedEvents()
        async with self.open() as log:
            yield _RecordingFirst(log, self.recorded, is_told_at_once=self.is_told_at_once)

    @pytest.fixture
    def job(self) -> str:
        """Id of a job."""
        return new_id()

    # ------------------------------------------------------------------------------------------------- append
    async def test_durable_events_are_numbered_from_the_first(self, log: EventLog, job: str) -> None:
        assert log.append(job, 1, [fact("a"), fact("b")]) == 2
        assert log.append(job, 3, [fact("c"), END]) == 4
        assert await read(log, job) == [
            Event(1, 0, "a", 3.0, "n", {"is": "a"}),
            Event(2, 0, "b", 3.0, "n", {"is": "b"}),
            Event(3, 0, "c", 3.0, "n", {"is": "c"}),
            Event(4, 0, *END[1:]),
        ]

    async def test_volatile_events_are_numbered_behind_the_durable_one_before_them(
        self, log: EventLog, job: str
    ) -> None:
        log.append(job, 1, [passing("p"), fact("a"), passing("q"), passing("r"), fact("b")])
        assert log.append(job, 3, [passing("s")]) == 2
        log.append(job, 3, [passing("t"), END])
        assert cursors(await read(log, job)) == [(0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)]

    async def test_what_is_there_already_is_dropped(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a"), fact("b")])
        assert log.append(job, 1, [fact("a"), fact("b")]) == 2
        assert log.append(job, 2, [fact("another"), fact("c")]) == 3
        assert log.append(job, 4, [END]) == 4
        assert kinds(await read(log, job)) == ["a", "b", "c", TERMINAL]

    async def test_a_hole_is_refused_and_the_answer_tells_from_where_to_fill_up(self, log: EventLog, job: str) -> None:
        assert log.append(job, 2, [fact("b")]) == 0
        log.append(job, 1, [fact("a")])
        assert log.append(job, 4, [fact("d"), passing("p"), fact("e")]) == 1
        assert log.append(job, 2, [fact("b"), fact("c"), fact("d"), END]) == 5
        assert kinds(await read(log, job)) == ["a", "b", "c", "d", TERMINAL]

    async def test_whoever_is_told_of_a_hole_fills_it_and_readers_see_none(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a")])
        self.recorded.record(job, 2, [fact("b"), fact("c")])
        reading = asyncio.create_task(read(log, job))
        if log.append(job, 4, [fact("d"), passing("p")]) < 3:
            log.append(job, 2, [fact("b"), fact("c"), fact("d"), passing("p")])
        log.append(job, 5, [END])
        assert kinds(await soon(reading)) == ["a", "b", "c", "d", "p", TERMINAL]

    async def test_volatile_events_of_an_older_attempt_are_refused(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a"), passing("first")], attempt=1)
        log.append(job, 2, [passing("second")], attempt=2)
        log.append(job, 2, [passing("zombie"), fact("b"), passing("zombie")], attempt=1)
        log.append(job, 3, [passing("second again"), END], attempt=2)
        assert kinds(await read(log, job)) == ["a", "first", "second", "b", "second again", TERMINAL]

    async def test_nothing_is_taken_after_the_terminal_event(self, log: EventLog, job: str) -> None:
        assert log.append(job, 1, [fact("a"), END, fact("late"), passing("late")]) == 2
        assert log.append(job, 3, [fact("late"), passing("late"), END]) == 2
        assert log.append(job, 3, [passing("late")], attempt=7) == 2
        assert kinds(await read(log, job)) == ["a", TERMINAL]

    async def test_jobs_do_not_mix(self, log: EventLog) -> None:
        jobs = [new_id() for _ in range(5)]
        for number in range(1, 4):
            for i, job in enumerate(jobs):
                log.append(job, number, [fact(f"{i}-{number}"), passing(f"{i}")])
        for job in jobs:
            log.append(job, 4, [END])
        for i, job in enumerate(jobs):
            found = kinds(await read(log, job))
            assert found == [f"{i}-1", f"{i}", f"{i}-2", f"{i}", f"{i}-3", f"{i}", TERMINAL]

    # ------------------------------------------------------------------------------------------------ readers
    async def test_a_reader_gets_events_as_they_come(self, log: EventLog, job: str) -> None:
        reader = log.read(job, START)
        following = flatten(reader)
        for number, kind in enumerate(["a", "b", "c"], 1):
            log.append(job, number, [fact(kind)])
            assert (await soon(anext(following))).type == kind
        log.append(job, 4, [END])
        assert (await soon(anext(following))).type == TERMINAL
        with pytest.raises(StopAsyncIteration):
            await soon(anext(following))

    async def test_any_number_of_readers_each_get_everything(self, log: EventLog, job: str) -> None:
        seen: list[list[Event]] = []

        async def follow(delay: int) -> None:
            for _ in range(delay):
                await asyncio.sleep(0)
            seen.append(await read(log, job))

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(follow, number * 3)
            for number in range(1, 100):
                log.append(job, number, [fact(f"e{number}"), passing("p")])
                await asyncio.sleep(0)
            log.append(job, 100, [END])
        whole = await read(log, job)
        assert len(whole) == 199
        assert seen == [whole] * 50

    async def test_a_late_reader_gets_the_whole_story(self, log: EventLog, job: str) -> None:
        drafts = [fact("a"), passing("p"), fact("b"), END]
        log.append(job, 1, drafts)
        assert kinds(await read(log, job)) == ["a", "p", "b", TERMINAL]
        assert await read(log, job) == await read(log, job)

    async def test_a_cursor_that_lies_ahead_waits(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a")])
        reading = asyncio.create_task(read(log, job, Cursor(3, 1)))
        log.append(job, 2, [fact("b"), fact("c"), passing("p")])
        await turns()
        log.append(job, 4, [passing("q"), fact("d"), passing("r"), END])
        assert [(event.type, *event.cursor) for event in await soon(reading)] == [
            ("q", 3, 2), ("d", 4, 0), ("r", 4, 1), (TERMINAL, 5, 0),
        ]  # fmt: skip

    async def test_behind_the_end_there_is_nothing(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a"), END])
        for cursor in (Cursor(2), Cursor(2, 5), Cursor(99)):
            assert await read(log, job, cursor) == []

    async def test_a_slow_reader_holds_up_neither_the_producer_nor_the_others(self, log: EventLog, job: str) -> None:
        slow = log.read(job, START)
        log.append(job, 1, [fact("first")])
        begun = list(await soon(anext(slow)))
        for number in range(2, 5001):
            log.append(job, number, [fact("e"), passing("p")])
        log.append(job, 5001, [END])
        whole = await read(log, job)
        assert len(whole) == 5001 + 4999
        begun.extend([event async for event in flatten(slow)])
        assert begun == whole

    async def test_a_reader_that_gives_up_disturbs_nobody(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact("a")])
        leaving = asyncio.create_task(read(log, job))
        staying = asyncio.create_task(read(log, job))
        ending = asyncio.create_task(log.wait_end(job))
        await turns()
        leaving.cancel()
        await turns()
        assert leaving.cancelled()
        log.append(job, 2, [fact("b"), END])
        assert kinds(await soon(staying)) == ["a", "b", TERMINAL]
        await soon(ending)

    # ------------------------------------------------------------------------------------------------- cursors
    @pytest.mark.parametrize("seed", range(25))
    async def test_reading_after_any_cursor_gives_the_exact_rest(self, log: EventLog, job: str, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secrets are made of it
        story = _Story(log, job, chance, leaves_holes=self.is_told_at_once)
        live = []
        for _ in range(chance.randint(5, 40)):
            story.append()
            if chance.random() < 0.2:
                cursor = story.any_cursor()
                live.append((cursor, asyncio.create_task(read(log, job, cursor))))
                await asyncio.sleep(0)
        story.end()
        for cursor in [START, *(event.cursor for event in story.events), *(story.any_cursor() for _ in range(20))]:
            assert await read(log, job, cursor) == story.after(cursor), cursor
        for cursor, reading in live:
            assert await soon(reading) == story.after(cursor), cursor

    async def test_batches_are_in_order_and_never_empty(self, log: EventLog, job: str) -> None:
        log.append(job, 1, [fact(f"e{i}") for i in range(2500)])
        log.append(job, 2501, [END])
        batches = [list(batch) async for batch in log.read(job, Cursor(7))]
        assert all(batches)
        assert [event.seq for batch in batches for event in batch] == list(range(8, 2502))

    # --------------------------------------------------------------------------------------------------- ends
    async def test_wait_end_returns_when_the_terminal_event_is_there(self, log: EventLog, job: str) -> None:
        waiting = asyncio.create_task(log.wait_end(job))
        log.append(job, 1, [fact("a"), passing("p")])
        await turns()
        assert not waiting.done()
        log.append(job, 2, [END])
        await soon(waiting)
        await soon(log.wait_end(job))

    async def test_readers_of_a_job_that_is_forgotten_end(self, log: EventLog, job: str) -> None:
        other = new_id()
        log.append(job, 1, [fact("a")])
        log.append(other, 1, [fact("b")])
        readers = [flatten(log.read(job, START)) for _ in range(3)]
        staying = asyncio.create_task(read(log, other))
        assert kinds([await soon(anext(reader)) for reader in readers]) == ["a"] * 3
        ending = [asyncio.create_task(anext(reader, None)) for reader in readers]
        await turns()
        log.forget(job)
        assert await soon(asyncio.gather(*ending)) == [None] * 3
        await turns()
        assert not staying.done()
        log.append(other, 2, [END])
        assert kinds(await soon(staying)) == ["b", TERMINAL]

    async def test_an_unknown_job_can_be_forgotten(self, log: EventLog, job: str) -> None:
        log.forget(job)
        log.append(job, 1, [END])
        assert kinds(await read(log, job)) == [TERMINAL]


# ------------------------------------------------------------------------------------------------------- helpers
class RecordedEvents:
    """What a ledger has of jobs' durable events: `Ledger.events` and `SharedLedger.heads` without one."""

    def __init__(self) -> None:
        """Have none."""
        self._jobs: dict[str, list[Event]] = {}

    def record(self, job_id: str, first: int, drafts: Sequence[Draft]) -> None:
        """Take durable events, unless they are known, or some are missing before them, or the job has ended."""
        events = self._jobs.setdefault(job_id, [])
        for number, draft in enumerate((draft for draft in drafts if draft[0]), first):
            if number == len(events) + 1 and not (events and events[-1].type == TERMINAL):
                events.append(Event(number, 0, *draft[1:]))

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events; see `Ledger.events`."""
        return self._jobs.get(job_id, [])[after : after + limit]

    async def heads(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the numbers of the last ones; see `SharedLedger.heads`."""
        return {job_id: len(self._jobs.get(job_id, ())) for job_id in job_ids}


class _Answer(int):
    """An answer that may come too early to be held to anything: such a one is as it should be, whatever that is."""

    __slots__ = ()
    __hash__ = int.__hash__

    def __eq__(self, _: object) -> bool:
        return True

    def __lt__(self, _: object) -> bool:
        return False


class _RecordingFirst:
    """An event log to which nothing is appended that the ledger does not have."""

    def __init__(self, log: EventLog, recorded: RecordedEvents, *, is_told_at_once: bool) -> None:
        self._log, self._recorded, self._is_told_at_once = log, recorded, is_told_at_once
        self.read, self.wait_end, self.forget, self.lacks = log.read, log.wait_end, log.forget, log.lacks

    def append(self, job_id: str, first: int, drafts: Sequence[Draft], attempt: int = 1, segment: int = 1) -> int:
        """Record what is durable, and append."""
        self._recorded.record(job_id, first, drafts)
        there = self._log.append(job_id, first, drafts, attempt, segment)
        return there if self._is_told_at_once else _Answer(there)


def fact(kind: str) -> Draft:
    """Return a durable event's draft."""
    return True, kind, 3.0, "n", {"is": kind}


def passing(kind: str) -> Draft:
    """Return a volatile event's draft."""
    return False, kind, 3.0, "n", {"is": kind}


async def soon(work: Awaitable[T]) -> T:
    """Await what must come; a log that never gives it fails the test instead of hanging it."""
    return await asyncio.wait_for(work, 120)


async def turns() -> None:
    """Let the loop run for a while, so that whoever can go on does."""
    for _ in range(20):
        await asyncio.sleep(0)


async def flatten(batches: AsyncIterator[Sequence[Event]]) -> AsyncIterator[Event]:
    """Yield the events of batches."""
    async for batch in batches:
        for event in batch:
            yield event


async def read(log: EventLog, job: str, after: Cursor = START) -> list[Event]:
    """Return all events after a cursor, up to the end."""

    async def follow() -> list[Event]:
        return [event async for event in flatten(log.read(job, after))]

    return await soon(follow())


def kinds(events: Sequence[Event]) -> list[str]:
    """Return the types of events."""
    return [event.type for event in events]


def cursors(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Return where events stand."""
    return [(event.seq, event.k) for event in events]


class _Story:
    """Random appends, with what the log must have made of them."""

    def __init__(self, log: EventLog, job: str, chance: random.Random, *, leaves_holes: bool) -> None:
        self.log = log
        self.leaves_holes = leaves_holes
        self.job = job
        self.chance = chance
        self.events: list[Event] = []
        self.head = 0
        self.tail = 0

    def append(self) -> None:
        """Append a few events; the first ones may be known already, or leave a hole."""
        first = self.head + 1
        known = self.chance.randint(0, min(2, self.head)) if self.chance.random() < 0.3 else 0
        drafts = [fact(f"again-{first - known + i}") for i in range(known)]
        if self.leaves_holes and not known and self.chance.random() < 0.2:
            assert self.log.append(self.job, first + self.chance.randint(1, 3), [fact("beyond a hole")]) == self.head
        for _ in range(self.chance.randint(1, 4)):
            draft = self.chance.choice([fact("f"), passing("p")])
            drafts.append(draft)
            self._expect(draft)
        assert self.log.append(self.job, first - known, drafts) == self.head

    def end(self) -> None:
        """Append the terminal event."""
        self._expect(END)
        assert self.log.append(self.job, self.head, [END]) == self.head

    def any_cursor(self) -> Cursor:
        """Return a cursor at, between or beyond the events so far."""
        return Cursor(self.chance.randint(0, self.head + 2), self.chance.choice([0, 0, 1, 2, 50]))

    def after(self, cursor: Cursor) -> list[Event]:
        """Return the events that a reader after a cursor must get."""
        return [event for event in self.events if event.cursor > cursor]

    def _expect(self, draft: Draft) -> None:
        self.head, self.tail = (self.head + 1, 0) if draft[0] else (self.head, self.tail + 1)
        self.events.append(Event(self.head, self.tail, *draft[1:]))
