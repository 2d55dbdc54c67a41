"""What begins in a process is read there without a look into Redis, and without a gap when others go on with it."""

import asyncio
from collections.abc import Sequence

import pytest

from millstream.events.memory import MOST_UNREAD
from millstream.model.event import START, TERMINAL
from tests.integration.test_redis_log_faults import durable, end, fact, passing, sent, story, tokens, until
from tests.integration.test_redis_refusals import see
from tests.redis_parts import Part, Parts
from tests.valkey import ValkeyServer


async def test_who_reads_where_a_job_began_reads_nothing_from_redis(
    parts: Parts, valkey_server: ValkeyServer, job: str
) -> None:
    part = await parts.part(valkey_server.url)
    await until(lambda: part.transport.subscription.is_connected)
    part.tail._due_at = asyncio.get_running_loop().time() + 3600.0  # no look of each second
    parts.put(part, job, 1, fact("e1"), passing("t1"))
    await sent(part)
    reading = asyncio.create_task(story(part, job))
    await until(lambda: part.view.is_watched(job))
    parts.put(part, job, 2, fact("e2"), passing("t2"), end())
    told = await reading
    assert durable(told) == [(1, "e1"), (2, "e2"), (3, TERMINAL)]
    assert tokens(told) == ["t1", "t2"]
    await part.transport.link.commands.call("PING")  # whatever was asked before has been answered
    with valkey_server.client() as redis:
        assert "cmdstat_xrange" not in redis.info("commandstats")


async def test_what_another_process_adds_is_read_though_nobody_waited_for_it(
    parts: Parts, valkey_url: str, job: str
) -> None:
    began, goes_on = await parts.part(valkey_url), await parts.part(valkey_url)
    parts.put(began, job, 1, fact("e1"))
    await sent(began)
    await see(began, job, "e1")
    parts.put(goes_on, job, 2, passing("theirs"), attempt=2)
    await until(lambda: not began.view.is_whole(job))
    await see(began, job, "theirs")


async def test_what_another_process_adds_unheard_is_read(
    parts: Parts, valkey_server: ValkeyServer, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.events.redis.subscription.FIRST_WAIT", 1.0)
    began, goes_on = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    await until(lambda: began.transport.subscription.is_connected)
    parts.put(began, job, 1, fact("e1"))
    await sent(began)
    with valkey_server.client() as redis:
        redis.client_kill_filter(_type="pubsub")
    await until(lambda: not began.transport.subscription.is_connected)
    parts.put(goes_on, job, 2, passing("theirs"), attempt=2)
    await sent(goes_on)
    await see(began, job, "theirs")


async def test_of_what_nobody_reads_only_the_beginning_is_kept_here(parts: Parts, valkey_url: str, job: str) -> None:
    part, count = await parts.part(valkey_url), 10 * MOST_UNREAD
    parts.put(part, job, 1, fact("e1"))
    words = [f"t{number}" for number in range(count)]
    await speak(parts, part, job, words)
    assert len(part.view.peek(job, START)) <= 2 * MOST_UNREAD
    parts.put(part, job, 2, end())
    assert tokens(await story(part, job)) == words


async def test_of_what_is_read_all_is_kept_here(parts: Parts, valkey_url: str, job: str) -> None:
    part, count = await parts.part(valkey_url), 10 * MOST_UNREAD
    parts.put(part, job, 1, fact("e1"))
    reading = asyncio.create_task(story(part, job))
    words = [f"t{number}" for number in range(count)]
    await speak(parts, part, job, words)
    parts.put(part, job, 2, end())
    assert tokens(await reading) == words


async def speak(parts: Parts, part: Part, job: str, words: Sequence[str]) -> None:
    """Emit tokens, some at once."""
    for start in range(0, len(words), 100):
        parts.put(part, job, 2, *map(passing, words[start : start + 100]))
        await sent(part)
