"""What Redis loses, trims, or never answers: readers of every process get every durable event, in order, and once."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from millstream.clock import new_id
from millstream.events.base import CursorLostError
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Bounds
from millstream.model.event import START, TERMINAL, Cursor, Draft, Event
from millstream.testing.proxy import HALF_OPEN, PASS, FaultProxy
from tests.redis_parts import Part, Parts
from tests.valkey import ValkeyServer

SHORT = Bounds(connect=1.0, command=1.0)
KEYS = Keys("tests")


def fact(kind: str) -> Draft:
    return True, kind, time.time(), "n", {"is": kind}


def passing(kind: str) -> Draft:
    return False, kind, time.time(), "n", {"is": kind}


def end() -> Draft:
    return True, TERMINAL, time.time(), None, {"state": "succeeded", "reason": None}


async def story(part: Part, job: str, after: Cursor = START) -> list[Event]:
    async with asyncio.timeout(120):
        return [event async for batch in part.read(job, after) for event in batch]


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.005)


async def sent(part: Part) -> None:
    """Wait until all that was appended is in Redis."""
    async with asyncio.timeout(120):
        await part.transport.outgoing._is_idle.wait()


def durable(events: Sequence[Event]) -> list[tuple[int, str]]:
    return [(event.seq, event.type) for event in events if event.is_durable]


def tokens(events: Sequence[Event]) -> list[str]:
    return [event.type for event in events if not event.is_durable]


def is_in_order(events: Sequence[Event]) -> bool:
    cursors = [event.cursor for event in events]
    return cursors == sorted(set(cursors))


LENGTH = 6
WHOLE = [(number, f"e{number}") for number in range(1, LENGTH)] + [(LENGTH, TERMINAL)]


def durable_in(client: Any, job: str) -> int:
    """Return how many durable events of a job Redis has."""
    return len([at for at, _ in client.xrange(KEYS.stream(job)) if at.endswith(b"-0")])


async def tell(parts: Parts, part: Part, job: str, number: int) -> None:
    """Append the event of a number, with a token before it."""
    draft = end() if number == LENGTH else fact(f"e{number}")
    parts.put(part, job, number, passing(f"t{number}"), draft)
    await sent(part)


# ------------------------------------------------------------------------------------------- what Redis has lost
@pytest.mark.parametrize("at", [0, 1, 3, LENGTH - 1, LENGTH])
async def test_redis_forgets_everything_before_some_event(
    parts: Parts, valkey_server: ValkeyServer, job: str, at: int
) -> None:
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    readers = [asyncio.create_task(story(part, job)) for part in (emits, sees)]
    for number in range(1, LENGTH + 1):
        if number == at + 1:
            valkey_server.flush()
        await tell(parts, emits, job, number)
    if at == LENGTH:
        valkey_server.flush()
    late = await parts.part(valkey_server.url)
    for told in [*await asyncio.gather(*readers), await story(late, job)]:
        assert durable(told) == WHOLE
        assert is_in_order(told)


@pytest.mark.parametrize("lost", [1, 2, LENGTH])
async def test_a_fail_over_loses_the_last_events(
    parts: Parts, valkey_server: ValkeyServer, job: str, lost: int
) -> None:
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    reading = asyncio.create_task(story(sees, job))
    for number in range(1, LENGTH + 1):
        await tell(parts, emits, job, number)
    forget_the_last(valkey_server, job, lost)
    late = await parts.part(valkey_server.url)
    told = await story(late, job)
    assert durable(told) == durable(await reading) == WHOLE
    with valkey_server.client() as client:
        # A reader gives the end back, a moment after it has read it; of what is unknown nothing is made again.
        await until(lambda: durable_in(client, job) in {0, LENGTH})
        assert client.ttl(KEYS.stream(job)) != -1


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_who_emits_fills_what_a_fail_over_lost_before_it_goes_on(
    parts: Parts, valkey_server: ValkeyServer, job: str, lost: int
) -> None:
    emits = await parts.part(valkey_server.url)
    for number in (1, 2, 3):
        await tell(parts, emits, job, number)
    seen = emits.transport.outgoing._seen[job]
    forget_the_last(valkey_server, job, lost)
    parts.put(emits, job, 4, passing("after"))
    await sent(emits)
    for number in range(4, LENGTH + 1):
        await tell(parts, emits, job, number)
    told = await story(await parts.part(valkey_server.url), job)
    assert durable(told) == WHOLE
    assert is_in_order(told)
    again = await story(await parts.part(valkey_server.url), job, Cursor(3, seen.k + 50))
    assert again[0].type == "after"  # an old cursor hides no new token


def forget_the_last(server: ValkeyServer, job: str, lost: int) -> None:
    """Let Redis be as it was before the last durable events were appended."""
    with server.client() as client:
        ids = [at for at, _ in client.xrange(KEYS.stream(job))]
        durables = [at for at in ids if at.endswith(b"-0")]
        if lost >= len(durables):
            client.delete(KEYS.stream(job), KEYS.state(job))
            return
        last = durables[-lost - 1]
        kept = [(at, fields) for at, fields in client.xrange(KEYS.stream(job)) if ids.index(at) <= ids.index(last)]
        state = client.hgetall(KEYS.state(job))
        client.delete(KEYS.stream(job), KEYS.state(job))
        for at, fields in kept:
            client.xadd(KEYS.stream(job), fields, id=at)
        state |= {b"head": last.split(b"-")[0], b"k": b"0"}
        state.pop(b"over", None)
        client.hset(KEYS.state(job), mapping=state)


async def test_redis_is_started_again_empty_in_mid_job(parts: Parts, valkey_server: ValkeyServer, job: str) -> None:
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    readers = [asyncio.create_task(story(part, job)) for part in (emits, sees)]
    for number in (1, 2):
        await tell(parts, emits, job, number)
    valkey_server.kill()
    for number in (3, 4):
        await tell(parts, emits, job, number)
    valkey_server.start()
    await until(lambda: not (emits.transport.is_away or sees.transport.is_away))
    for number in range(5, LENGTH + 1):
        await tell(parts, emits, job, number)
    late = await story(await parts.part(valkey_server.url), job)
    for told in [*await asyncio.gather(*readers), late]:
        assert durable(told) == WHOLE
        assert is_in_order(told)
    assert "t6" in tokens(late)


async def test_a_hash_that_was_evicted_is_made_again_from_the_stream(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits = await parts.part(valkey_server.url)
    for number in range(1, LENGTH):
        await tell(parts, emits, job, number)
        with valkey_server.client() as client:
            client.delete(KEYS.state(job))
    await tell(parts, emits, job, LENGTH)
    told = await story(await parts.part(valkey_server.url), job)
    assert durable(told) == WHOLE
    assert tokens(told) == [f"t{number}" for number in range(1, LENGTH + 1)]


async def test_a_stream_that_was_trimmed_is_read_on_from_the_ledger(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    for number in range(1, LENGTH + 1):
        await tell(parts, emits, job, number)
    with valkey_server.client() as client:
        client.xtrim(KEYS.stream(job), maxlen=3, approximate=False)
    told = await story(sees, job)
    assert durable(told) == WHOLE
    assert tokens(told) == [f"t{LENGTH}"]


async def test_what_the_ledger_has_forgotten_too_is_told_with_the_oldest_position(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    for number in range(1, LENGTH + 1):
        await tell(parts, emits, job, number)
    valkey_server.flush()
    parts.recorded._jobs[job] = _Shortened(parts.recorded._jobs[job])
    with pytest.raises(CursorLostError, match="the oldest position is 3-0"):
        await story(sees, job)
    assert durable(await story(sees, job, Cursor(3))) == WHOLE[3:]


class _Shortened(list[Event]):
    """A ledger's events, of which the first three are gone."""

    def __getitem__(self, asked):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        return super().__getitem__(slice(max(asked.start, 3), asked.stop)) if isinstance(asked, slice) else None


# ------------------------------------------------------------------------------------------------ lost answers
async def test_an_append_whose_answer_is_lost_is_there_once(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    with FaultProxy(valkey_server.port) as proxy:
        emits = await parts.part(f"redis://127.0.0.1:{proxy.port}/0", bounds=SHORT)
        sees = await parts.part(valkey_server.url)
        readers = [asyncio.create_task(story(part, job)) for part in (emits, sees)]
        for number in (1, 2):
            await tell(parts, emits, job, number)
        proxy.behave_at(b"EVALSHA", HALF_OPEN)
        parts.put(emits, job, 3, passing("t3"), fact("e3"), passing("after"))
        await until(lambda: emits.transport.is_away)
        parts.put(emits, job, 4, fact("e4"))
        proxy.behave(PASS)
        await until(lambda: not emits.transport.is_away)
        for number in range(5, LENGTH + 1):
            await tell(parts, emits, job, number)
        for told in await asyncio.gather(*readers):
            assert durable(told) == WHOLE
            assert is_in_order(told)
        assert tokens(await story(sees, job)).count("t3") == 1


async def test_a_connection_that_breaks_behind_an_append_makes_no_event_twice(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    with FaultProxy(valkey_server.port) as proxy:
        emits = await parts.part(f"redis://127.0.0.1:{proxy.port}/0")
        await tell(parts, emits, job, 1)
        proxy.behave_at(b"EVALSHA", HALF_OPEN)
        parts.put(emits, job, 2, passing("t2"), fact("e2"))
        await asyncio.to_thread(proxy.wait)
        with valkey_server.client() as client:
            await until(lambda: client.xlen(KEYS.stream(job)) == 4)
        proxy.behave(PASS)
        for connection in emits.transport.link._made:
            connection._writer.transport.abort()
        for number in range(3, LENGTH + 1):
            await tell(parts, emits, job, number)
        told = await story(emits, job)
        assert durable(told) == WHOLE
        assert tokens(told) == [f"t{number}" for number in range(1, LENGTH + 1)]


# ------------------------------------------------------------------------------------------------- many emitters
async def test_two_processes_emit_of_one_job(parts: Parts, valkey_url: str, job: str) -> None:
    main, side = await parts.part(valkey_url), await parts.part(valkey_url)
    readers = [asyncio.create_task(story(part, job)) for part in (main, side)]
    for number in range(1, 100):
        emits, segment = ((main, 1), (side, 2))[number % 2]
        parts.put(emits, job, number, passing(f"t{number}"), fact(f"e{number}"), segment=segment)
        if number % 10 == 0:
            await asyncio.sleep(0.001)
    await asyncio.gather(sent(main), sent(side))
    parts.put(main, job, 100, end())
    for told in await asyncio.gather(*readers):
        assert [event.seq for event in told if event.is_durable] == list(range(1, 101))
        assert is_in_order(told)


async def test_what_a_zombie_says_in_passing_is_refused(parts: Parts, valkey_url: str, job: str) -> None:
    zombie, heir = await parts.part(valkey_url), await parts.part(valkey_url)
    parts.put(zombie, job, 1, fact("e1"), passing("first"), attempt=1)
    await sent(zombie)
    parts.put(heir, job, 2, fact("e2"), passing("second"), attempt=2)
    await sent(heir)
    parts.put(zombie, job, 3, passing("zombie"), attempt=1)
    await sent(zombie)
    parts.put(heir, job, 3, end(), attempt=2)
    await sent(heir)
    assert tokens(await story(zombie, job)) == tokens(await story(heir, job)) == ["first", "second"]


async def test_fifty_readers_in_three_processes_see_the_same(parts: Parts, valkey_url: str, job: str) -> None:
    emits, *others = [await parts.part(valkey_url) for _ in range(3)]
    readers = [asyncio.create_task(story(part, job)) for part in (emits, *others) for _ in range(17)]
    for number in range(1, 200):
        parts.put(emits, job, number, passing("p"), fact(f"e{number}"), passing("q"))
        if number % 7 == 0:
            await asyncio.sleep(0)
        if number % 50 == 0:
            await sent(emits)
    parts.put(emits, job, 200, end())
    digests = {digest(told) for told in await asyncio.gather(*readers)}
    assert digests == {digest(await story(others[0], job))}


def digest(events: Sequence[Event]) -> str:
    return hashlib.sha256(
        repr([(*event.cursor, event.type, event.at, event.data) for event in events]).encode()
    ).hexdigest()


# ----------------------------------------------------------------------------------------------------------- keys
async def test_keys_are_kept_until_the_end_and_then_for_a_while(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits = await parts.part(valkey_server.url, ttl_seconds=100)
    with valkey_server.client() as client:
        for number in range(1, LENGTH):
            await tell(parts, emits, job, number)
            assert client.ttl(KEYS.stream(job)) == client.ttl(KEYS.state(job)) == -1
        await tell(parts, emits, job, LENGTH)
        assert 90 <= client.ttl(KEYS.stream(job)) <= 100
        assert 90 <= client.ttl(KEYS.state(job)) <= 100
        assert [key for key in client.scan_iter() if client.ttl(key) == -1] == []


async def test_what_is_purged_is_gone_from_redis_too(parts: Parts, valkey_server: ValkeyServer, job: str) -> None:
    emits = await parts.part(valkey_server.url)
    for number in range(1, LENGTH + 1):
        await tell(parts, emits, job, number)
    emits.forget(job)
    await sent(emits)
    with valkey_server.client() as client:
        assert client.keys(f"*{job}*") == []


async def test_an_end_that_redis_missed_is_given_to_it_when_it_is_back(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits = await parts.part(valkey_server.url, bounds=SHORT)
    for number in range(1, LENGTH):
        await tell(parts, emits, job, number)
    valkey_server.pause()
    parts.put(emits, job, LENGTH, end())
    await until(lambda: emits.transport.is_away)
    valkey_server.resume()
    await until(lambda: not emits.transport.is_away)
    await sent(emits)
    with valkey_server.client() as client:
        await until(lambda: client.ttl(KEYS.stream(job)) > 0)
    assert durable(await story(await parts.part(valkey_server.url), job)) == WHOLE


# ---------------------------------------------------------------------------------------------- when it is slow
async def test_the_end_of_a_job_wakes_who_waits_here_though_redis_hangs(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    emits = await parts.part(valkey_server.url, bounds=Bounds(command=1000.0))
    waiting = asyncio.create_task(emits.wait_end(job))
    await tell(parts, emits, job, 1)
    valkey_server.pause()
    parts.put(emits, job, 2, end())
    await asyncio.wait_for(waiting, 120)
    valkey_server.resume()


async def test_a_buffer_that_is_full_is_dropped_and_readers_miss_nothing_durable(
    parts: Parts, valkey_server: ValkeyServer, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.events.redis.outgoing.MOST_EVENTS", 50)
    emits, sees = await parts.part(valkey_server.url, bounds=SHORT), await parts.part(valkey_server.url)
    readers = [asyncio.create_task(story(part, job)) for part in (emits, sees)]
    await tell(parts, emits, job, 1)
    valkey_server.pause()
    for number in range(2, 200):
        parts.put(emits, job, number, fact(f"e{number}"), passing("p"))
    assert emits.transport.outgoing._events <= 60
    valkey_server.resume()
    parts.put(emits, job, 200, end())
    for told in await asyncio.gather(*readers):
        assert [event.seq for event in told if event.is_durable] == list(range(1, 201))


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.matrix)])
async def test_however_many_read_a_process_has_three_connections(
    parts: Parts, valkey_server: ValkeyServer, count: int
) -> None:
    sees, emits = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    jobs = [new_id() for _ in range(count)]
    readers = [asyncio.create_task(story(part, job)) for part in (sees, emits) for job in jobs]
    for job in jobs:
        parts.put(emits, job, 1, fact("e1"))
    await until(lambda: sees.view.head(jobs[-1]))
    with valkey_server.client() as client:
        assert len([one for one in client.client_list() if one["name"] == "millstream"]) <= 6
    for job in jobs:
        parts.put(emits, job, 2, end())
    assert {len(told) for told in await asyncio.gather(*readers)} == {2}
