"""What Redis keeps of jobs that have ended, and what a process remembers of those that nobody reads here any more."""

import asyncio
from functools import partial

from millstream.clock import new_id
from millstream.ledger.activity import Look
from tests.integration.test_redis_log_faults import KEYS, SHORT, end, fact, sent, story, until
from tests.redis_parts import Early, Parts
from tests.valkey import ValkeyServer


async def leave(reader: asyncio.Task[object]) -> None:
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)


async def test_a_job_whose_events_were_on_their_way_is_forgotten_with_its_last_reader(
    parts: Parts, valkey_server: ValkeyServer
) -> None:
    sees = await parts.part(valkey_server.url)
    sees.tail._clock = Early()  # to whom what the ledger has may still come by Redis
    jobs = [new_id() for _ in range(20)]
    readers = [asyncio.create_task(story(sees, job)) for job in jobs]
    for job in jobs:
        parts.recorded.record(job, 1, [fact("e1")])
    await until(lambda: sees.tail._late)
    for reader in readers:
        await leave(reader)
    other = asyncio.create_task(story(sees, new_id()))
    await until(lambda: not sees.tail._late)
    await leave(other)


async def test_while_redis_is_away_no_job_is_remembered_that_was_read_meanwhile(
    parts: Parts, valkey_server: ValkeyServer
) -> None:
    sees = await parts.part(valkey_server.url, bounds=SHORT)
    valkey_server.stop()
    parts.put(sees, new_id(), 1, fact("e1"))  # it is noticed by whoever asks
    await until(lambda: sees.transport.is_away)
    for job in [new_id() for _ in range(20)]:
        reader = asyncio.create_task(story(sees, job))
        await until(partial(sees.view.is_watched, job))
        await leave(reader)
    staying = asyncio.create_task(story(sees, new_id()))
    await until(lambda: not sees.tail._new)
    await leave(staying)


async def test_who_looked_at_a_job_is_kept_as_long_as_its_events(parts: Parts, valkey_server: ValkeyServer) -> None:
    emits, job = await parts.part(valkey_server.url, ttl_seconds=60), new_id()
    await emits.transport.activity.touch("process", {job: Look(is_open=True)})
    parts.put(emits, job, 1, fact("e1"))
    await sent(emits)
    with valkey_server.client() as client:
        assert client.ttl(KEYS.activity(job)) > 3600
        parts.put(emits, job, 2, end())
        await sent(emits)
        assert [1 <= client.ttl(key) <= 60 for key in KEYS.of_job(job)] == [True] * 3


async def test_of_a_job_that_is_purged_redis_keeps_nothing(parts: Parts, valkey_server: ValkeyServer) -> None:
    emits, job = await parts.part(valkey_server.url), new_id()
    await emits.transport.activity.touch("process", {job: Look(is_open=True)})
    parts.put(emits, job, 1, end())
    await sent(emits)
    emits.forget(job)
    await sent(emits)
    with valkey_server.client() as client:
        assert not client.keys(f"*{job}*")
