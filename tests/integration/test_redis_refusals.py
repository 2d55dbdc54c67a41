"""Redis answers, but refuses: readers get what is durable, other jobs go on, and nothing is tried in haste."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from millstream.clock import new_id
from millstream.errors import JobNotFoundError
from millstream.model.event import START, Event
from millstream.testing.contract_events import RecordedEvents
from tests.integration.test_redis_log_faults import (
    KEYS,
    LENGTH,
    WHOLE,
    durable,
    end,
    fact,
    passing,
    sent,
    story,
    tell,
    tokens,
    until,
)
from tests.redis_parts import Part, Parts
from tests.valkey import ValkeyServer


async def test_what_redis_refuses_time_and_again_is_tried_more_and_more_seldom(
    parts: Parts, valkey_server: ValkeyServer
) -> None:
    job = new_id()
    with valkey_server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
    part = await parts.part(f"redis://app:secret@127.0.0.1:{valkey_server.port}/0")
    found_back: list[float] = []
    part.transport.link.on_back.append(lambda: found_back.append(time.monotonic()))
    reading = asyncio.create_task(story(part, job))
    for number in range(1, LENGTH):
        parts.put(part, job, number, fact(f"e{number}"))
    await until(lambda: len(found_back) == 4)
    assert found_back[3] - found_back[2] > 0.5
    parts.put(part, job, LENGTH, end())
    assert durable(await reading) == WHOLE


async def test_a_key_of_another_type_harms_nothing(parts: Parts, valkey_server: ValkeyServer) -> None:
    bad, good = new_id(), new_id()
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    found_back: list[str] = []
    emits.transport.link.on_back.append(lambda: found_back.append("back"))
    reading = [asyncio.create_task(story(sees, job)) for job in (bad, good)]
    for number in range(1, LENGTH + 1):
        if number == 3:
            with valkey_server.client() as client:
                client.set(KEYS.state(bad), "garbage")
        if number == 4:
            with valkey_server.client() as client:
                client.set(KEYS.stream(bad), "garbage")
        for job in (bad, good):
            await tell(parts, emits, job, number)
    for task in reading:
        assert durable(await task) == WHOLE
    assert tokens(await reading[1]) == [f"t{number}" for number in range(1, LENGTH + 1)]
    assert not found_back


async def test_a_reader_who_comes_back_sees_tokens_that_came_meanwhile(parts: Parts, valkey_url: str) -> None:
    job = new_id()
    emits, sees = await parts.part(valkey_url), await parts.part(valkey_url)
    parts.put(emits, job, 1, fact("e1"))
    for part in (emits, sees):
        await see(part, job, "e1")
    parts.put(emits, job, 2, passing("token"))
    await sent(emits)
    for part in (emits, sees):
        await see(part, job, "token")


async def see(part: Part, job: str, kind: str) -> None:
    """Read a job that goes on until there is an event of a kind, and read it no more then."""
    batches = cast("AsyncGenerator[Sequence[Event]]", part.read(job, START))
    async with asyncio.timeout(120), aclosing(batches):
        async for batch in batches:
            if kind in (event.type for event in batch):
                return


async def test_an_entry_that_is_no_event_keeps_no_reader_waiting(parts: Parts, valkey_server: ValkeyServer) -> None:
    bad, good = new_id(), new_id()
    emits, sees = await parts.part(valkey_server.url), await parts.part(valkey_server.url)
    for job in (bad, good):
        parts.put(emits, job, 1, fact("e1"))
    await sent(emits)
    with valkey_server.client() as client:
        client.xadd(KEYS.stream(bad), {"e": b"\xff\xff no event"}, id="1-7")
    for job in (bad, good):
        parts.put(emits, job, 2, fact("e2"), passing("t3"), fact("e3"))
    reading = [asyncio.create_task(story(sees, job)) for job in (bad, good)]
    for number in range(4, LENGTH + 1):
        for job in (bad, good):
            await tell(parts, emits, job, number)
    assert durable(await reading[0]) == durable(await reading[1]) == WHOLE
    assert tokens(await reading[1]) == [f"t{number}" for number in range(3, LENGTH + 1)]


class Forgetful(RecordedEvents):
    """A ledger's events, which says so where it does not know a job."""

    async def events(self, job_id: str, after: int, limit: int) -> list[Event]:
        if job_id not in self._jobs:
            raise JobNotFoundError(job_id)
        return await super().events(job_id, after, limit)


async def test_keys_of_a_job_that_the_ledger_has_forgotten_are_removed(parts: Parts, valkey_url: str) -> None:
    job = new_id()
    parts.recorded = Forgetful()
    emits = await parts.part(valkey_url)
    parts.put(emits, job, 1, fact("e1"))
    await sent(emits)
    del parts.recorded._jobs[job]  # Redis was away as retention took it
    emits.transport.outgoing.mend([job])
    await sent(emits)
    assert await emits.transport.link.commands.call("EXISTS", KEYS.stream(job), KEYS.state(job)) == 0
