"""Who looks at jobs, by the one suite: kept in memory, in a ledger on either database, in Redis."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from millstream.clock import SystemClock, new_id
from millstream.events.redis.activity import RedisActivity
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link
from millstream.events.redis.roll import Roll
from millstream.ledger import schema
from millstream.ledger.activity import Activity, ActivityUnavailableError, Look, MemoryActivity
from millstream.ledger.database import database, transaction
from millstream.ledger.sql import SqlLedger
from millstream.testing.contract_activity import ActivityContract
from tests.valkey import ValkeyServer

KEYS = Keys("ledger")


class TestMemoryActivity(ActivityContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Activity]:
        yield MemoryActivity(SystemClock())


class TestSqlActivity(ActivityContract):
    @pytest.fixture(autouse=True)
    def _where(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Activity]:
        ledger = SqlLedger(self._url, SystemClock())
        yield ledger.activity
        await ledger.close()

    async def test_what_was_said_before_the_clock_began_anew_is_old(self, activity: Activity) -> None:
        job = new_id()
        await activity.touch("one", {job: Look(is_open=True)})
        connection = database(self._url).connect()
        with transaction(connection):
            connection.raw.execute(sa.update(schema.activity).values(seen_at=schema.activity.c.seen_at + 3600))
        connection.close()
        assert (await activity.seen([job]))[job][0].age == math.inf


class TestRedisActivity(ActivityContract):
    @pytest.fixture(autouse=True)
    def _where(self, valkey_server: ValkeyServer) -> None:
        self._server = valkey_server

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RedisActivity]:
        with self._server.database() as url:
            link = Link(url, KEYS.probe)
            yield RedisActivity(link, KEYS)
            await link.close()
            with self._server.client(int(url.rpartition("/")[2])) as client:
                assert all(client.ttl(key) > 0 for key in client.scan_iter())

    async def test_who_wrote_a_heartbeat_that_is_none_is_taken_to_look(self, activity: RedisActivity) -> None:
        job = new_id()
        beats: list[str | bytes] = ["", "open", "open soon", "closed 12", b"\xff 1"]
        for number, beat in enumerate(beats):
            await activity._link.commands.call("HSET", KEYS.activity(job), str(number), beat)
            await activity._link.commands.call("EXPIRE", KEYS.activity(job), 60)
        assert {(said.look, said.age) for said in (await activity.seen([job]))[job]} == {(Look(is_open=True), 0.0)}
        assert activity.parse_errors == 5

    async def test_a_key_of_another_type_hides_no_other_job(self, activity: RedisActivity) -> None:
        job, garbled = new_id(), new_id()
        await activity._link.commands.call("SET", KEYS.activity(garbled), "garbage", "EX", 60)
        await activity.touch("one", {job: Look(is_open=False)})
        seen = await activity.seen([garbled, job])
        assert [said.look for said in (*seen[garbled], *seen[job])] == [Look(is_open=True), Look(is_open=False)]
        assert activity.parse_errors == 1
        await activity.touch("one", {garbled: Look(is_open=False)})
        assert [said.look for said in (await activity.seen([garbled]))[garbled]] == [Look(is_open=False)]

    async def test_what_is_no_process_is_not_told_of(self, activity: RedisActivity) -> None:
        roll = Roll(activity._link, KEYS)
        await roll.tell("one", {"id": "one"})
        for process, entry in (("two", "no JSON"), ("three", "[]"), ("four", "{}")):
            await roll.tell(process, {})
            await activity._link.commands.call("SET", KEYS.process(process), entry, "EX", 60)
        assert await roll.told() == [{"id": "one"}]

    async def test_a_heartbeat_by_a_clock_that_was_ahead_is_of_now(self, activity: RedisActivity) -> None:
        job = new_id()
        await activity._link.commands.call("HSET", KEYS.activity(job), "one", f"open {time.time() + 3600:f}")
        await activity._link.commands.call("EXPIRE", KEYS.activity(job), 60)
        assert [(said.look, said.age) for said in (await activity.seen([job]))[job]] == [(Look(is_open=True), 0.0)]

    async def test_while_redis_is_away_nobody_can_tell(self, activity: RedisActivity) -> None:
        self._server.stop()
        try:
            with pytest.raises(ActivityUnavailableError, match=r"cannot be recorded: Redis at .* is away"):
                await activity.touch("one", {new_id(): Look(is_open=True)})
            with pytest.raises(
                ActivityUnavailableError, match=r"nobody can say who looks at jobs: Redis at .* is away"
            ):
                await activity.seen([new_id()])
            assert (activity.touch_errors, activity.get_errors) == (1, 1)
        finally:
            self._server.start()
