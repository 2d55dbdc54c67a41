"""A feed: whatever it lets go, each reader gets every line behind its cursor once, in order, whole events at a time."""

from __future__ import annotations

import asyncio
import random

import pytest

from millstream.model.event import START, Cursor
from millstream.server.builds.feed import Feed, Lines
from millstream.server.builds.lines import Line


def script(chance: random.Random) -> list[list[Line]]:
    """Return what comes, batch by batch: events of one to three lines, some of them volatile."""
    batches: list[list[Line]] = []
    seq = k = 0
    for _ in range(chance.randint(1, 30)):
        batch: list[Line] = []
        for _ in range(chance.randint(1, 5)):
            seq, k = (seq, k + 1) if seq and chance.random() < 0.5 else (seq + 1, 0)
            count = chance.randint(1, 3)
            bodies = [b"%d-%d.%d" % (seq, k, n) + b"x" * chance.randint(0, 40) for n in range(count)]
            batch += [Line(Cursor(seq, k), body, n == count - 1, is_end=False) for n, body in enumerate(bodies)]
        batches.append(batch)
    batches[-1][-1] = batches[-1][-1]._replace(is_end=True)
    return batches


@pytest.mark.parametrize("seed", range(40))
async def test_readers_of_any_pace_get_everything_behind_their_cursor(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  no secret
    batches = script(chance)
    whole = [line for batch in batches for line in batch]
    come = asyncio.Event()

    async def lines() -> Lines:
        for batch in batches:
            if not come.is_set():
                await asyncio.sleep(0)
            yield batch

    feed = Feed(lines, kept_bytes=chance.choice([60, 300, 1 << 20]))

    async def read(pause: int) -> None:
        after = chance.choice([START, *(line.cursor for line in whole)])
        reader = feed.read(after)
        got: list[Line] = []
        while not reader.is_over:
            given = await reader.next(5.0)
            assert not given or given[-1].is_last
            got += given
            for _ in range(pause):
                await asyncio.sleep(0)
        reader.close()
        assert got == [line for line in whole if line.cursor > after]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.pump())
        for pause in (0, 0, 1, 5, 50):
            tasks.create_task(read(pause))
    come.set()
    await read(0)
    assert feed.readers == 0
    assert feed.has_end


async def test_a_wait_ends_when_its_time_is_over_and_when_it_is_stopped() -> None:
    async def lines() -> Lines:
        await asyncio.Event().wait()
        yield []

    feed = Feed(lines)
    feed.has_begun = True
    pumping = asyncio.create_task(feed.pump())
    reader = feed.read(START)
    assert await reader.next(0.01) == ()
    was_over = reader.is_over
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    reader.stop()
    assert await waiting == ()
    assert (was_over, reader.is_over) == (False, True)
    pumping.cancel()


async def test_news_that_a_reader_does_not_want_does_not_prolong_its_wait() -> None:
    over = asyncio.Event()

    async def lines() -> Lines:
        seq = 0
        while not over.is_set():
            seq += 1
            yield [Line(Cursor(seq, 0), b"x", is_last=True, is_end=False)]
            await asyncio.sleep(0.001)

    feed = Feed(lines)
    pumping = asyncio.create_task(feed.pump())
    assert await feed.read(Cursor(10**9, 0)).next(0.05) == ()
    over.set()
    await pumping


async def test_a_reader_that_does_not_wait_gets_what_is_there_though_it_is_the_first() -> None:
    async def lines() -> Lines:
        await asyncio.sleep(0.01)
        yield [Line(Cursor(1, 0), b"x", is_last=True, is_end=True)]

    feed = Feed(lines)
    pumping = asyncio.create_task(feed.pump())
    assert len(await feed.read(START).next(0.0)) == 1
    await pumping
