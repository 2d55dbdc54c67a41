"""Events through Redis: apps on one ledger see each other's events live, tokens included, whatever becomes of Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from millstream import Millstream, Settings, ctx, flow, task
from millstream.clock import new_id
from millstream.errors import JobNotFoundError
from millstream.ledger.sql import SqlLedger
from millstream.model.event import START, TERMINAL, Cursor, Event
from millstream.model.job import JobRecord
from tests.valkey import ValkeyServer

T = TypeVar("T")


@task
async def talk(words: int, gate: str = "") -> int:
    for number in range(words):
        ctx.emit("token", {"text": str(number)})
        await asyncio.sleep(0)
    while gate and not await asyncio.to_thread(Path(gate).exists):  # noqa: ASYNC110  a test makes it
        await asyncio.sleep(0.01)
    return words


@flow
def conversation(words: int, gate: str = "") -> Any:
    first = talk(words, gate)
    return talk(first)


class Fleet:
    """Apps in this process, each as if it were a process of its own."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.settings = Settings(job_queue_type="redis", redis_queue_url=url, database_url="sqlite:///ledger.db")
        self._stack = stack

    async def app(self, *, executes: bool = True) -> Millstream:
        return await self._stack.enter_async_context(Millstream(settings=self.settings, executes=executes))


@pytest.fixture
async def fleet(valkey_server: ValkeyServer) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(valkey_server.url, stack)


async def story(app: Millstream, job_id: str, after: Cursor = START) -> list[Event]:
    async with asyncio.timeout(120):
        return [event async for event in app.read_events(job_id, after)]


async def until(holds: Callable[[], T]) -> T:
    """Wait until something holds, and return it."""
    async with asyncio.timeout(120):
        while not (found := holds()):  # noqa: ASYNC110  Redis makes it so
            await asyncio.sleep(0.02)
    return found


def shown(events: list[Event]) -> list[tuple[int, int, str]]:
    return [(event.seq, event.k, event.type) for event in events]


async def test_readers_of_all_processes_see_the_same_tokens_included(fleet: Fleet) -> None:
    runs, sees, late = await fleet.app(), await fleet.app(executes=False), await fleet.app(executes=False)
    job = await runs.submit(conversation, words=50)
    mine, theirs = await asyncio.gather(story(runs, job.id), story(sees, job.id))
    assert [event.type for event in mine].count("token") == 100
    assert shown(mine) == shown(theirs) == shown(await story(late, job.id))


async def test_who_reads_what_was_just_handed_in_asks_the_ledger_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = await fleet.app()
    asked: list[str] = []
    get = SqlLedger.get

    async def asking(ledger: SqlLedger, job_id: str) -> JobRecord:
        asked.append(job_id)
        return await get(ledger, job_id)

    monkeypatch.setattr(SqlLedger, "get", asking)
    job = await app.submit(conversation, words=5)
    assert (await story(app, job.id))[-1].type == TERMINAL
    assert not asked
    with pytest.raises(JobNotFoundError):
        await story(app, new_id())
    assert asked


async def test_redis_flushed_in_mid_job_costs_no_durable_event(
    fleet: Fleet, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    runs, sees, late = await fleet.app(), await fleet.app(executes=False), await fleet.app(executes=False)
    job = await runs.submit(conversation, words=5, gate=str(gate))
    reading = [asyncio.create_task(story(app, job.id)) for app in (runs, sees)]
    await asyncio.sleep(0.2)
    valkey_server.flush()
    gate.touch()
    stories = [*await asyncio.gather(*reading), await story(late, job.id)]
    recorded = await runs.recorded(job.id)
    for told in stories:
        assert [event.type for event in told if event.is_durable] == [event.type for event in recorded]
        assert [event.seq for event in told if event.is_durable] == list(range(1, len(recorded) + 1))
        assert shown(told) == sorted(shown(told))


async def test_without_redis_readers_get_what_is_durable_and_jobs_go_on(
    fleet: Fleet, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    runs, sees = await fleet.app(), await fleet.app(executes=False)
    job = await runs.submit(conversation, words=5, gate=str(gate))
    reading = [asyncio.create_task(story(app, job.id)) for app in (runs, sees)]
    await asyncio.sleep(0.2)
    valkey_server.kill()
    gate.touch()
    assert await asyncio.wait_for(job.result(), 120) == 5
    other = await runs.submit(conversation, words=5)
    assert await asyncio.wait_for(other.result(), 120) == 5
    recorded = [event.type for event in await runs.recorded(job.id)]
    for told in await asyncio.gather(*reading):
        assert [event.type for event in told if event.is_durable] == recorded
    assert await runs.is_event_log_away()
    valkey_server.start()
    again = await runs.submit(conversation, words=5)
    await story(sees, again.id)


async def test_a_job_whose_end_never_came_to_redis_gets_its_end_and_its_ttl_there(
    fleet: Fleet, valkey_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.events.redis.sweep.SHORTEST_SECONDS", 0.2)
    fleet.settings = fleet.settings.model_copy(update={"redis_queue_ttl": 1000})
    runs = await fleet.app()
    job = await runs.submit(conversation, words=3)
    await asyncio.wait_for(job.result(), 120)
    with valkey_server.client() as redis:
        stream, state = f"*:job:{job.id}:events", f"*:job:{job.id}:state"
        (stream,), (state,) = await until(lambda: [*map(redis.keys, (stream, state))])
        await until(lambda: redis.ttl(stream) > 0)
        *before, _ = redis.xrange(stream)  # as if the process had died before it could tell the end
        redis.delete(stream)
        for at, fields in before:
            redis.xadd(stream, fields, id=at)
        redis.hdel(state, "over")
        redis.hset(state, mapping=dict(zip(("head", "k"), before[-1][0].split(b"-"), strict=True)))
        redis.persist(state)
        fleet.settings = fleet.settings.model_copy(update={"redis_queue_ttl": 1})
        await fleet.app(executes=False)
        await until(lambda: redis.ttl(state) != -1)
        assert redis.ttl(stream) != -1
