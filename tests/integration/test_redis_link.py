"""The connections to Redis: few, bounded in every wait, and made again by themselves."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from millstream.events.redis.link import Bounds, Link, RedisUnavailableError
from millstream.events.redis.subscription import Subscription
from millstream.testing.proxy import HALF_OPEN, PASS, FaultProxy
from tests.valkey import ValkeyServer

SHORT = Bounds(connect=1.0, command=1.0)

on_each_loop = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
"""On a server's event loop too, which raises an error of its own for a write to a connection that is closed."""


@asynccontextmanager
async def linked(url: str, bounds: Bounds | None = None) -> AsyncIterator[Link]:
    link = Link(url, "tests:probe", bounds)
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def hearing(link: Link, *channels: str) -> AsyncIterator[tuple[Subscription, list[tuple[str, bytes]]]]:
    heard: list[tuple[str, bytes]] = []
    subscription = Subscription(link)
    for channel in channels:
        subscription.hear(channel, lambda said, channel=channel: heard.append((channel, said)))  # type: ignore[misc]
    await subscription.start()
    try:
        await until(lambda: subscription.is_connected)
        yield subscription, heard
    finally:
        await subscription.stop()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.01)


async def test_commands_are_answered_one_by_one_and_together(valkey_url: str) -> None:
    async with linked(valkey_url) as link:
        assert await link.commands.call("SET", "a", 1, "EX", 60) == b"OK"
        assert await link.commands.pipeline([("GET", "a"), ("GET", "b"), ("INCRBY", "a", 2)]) == [b"1", None, 3]
        answers = await asyncio.gather(*(link.commands.call("ECHO", str(n)) for n in range(50)))
        assert answers == [str(n).encode() for n in range(50)]


async def test_what_redis_refuses_is_an_error_and_no_outage(valkey_url: str) -> None:
    async with linked(valkey_url) as link:
        await link.commands.call("SET", "a", "text")
        with pytest.raises(RedisUnavailableError, match="not an integer"):
            await link.commands.pipeline([("GET", "a"), ("INCRBY", "a", 1)])
        assert not link.is_away
        assert await link.commands.call("GET", "a") == b"text"


@on_each_loop
async def test_a_server_that_was_started_again_is_found_without_an_error(valkey_server: ValkeyServer) -> None:
    async with linked(valkey_server.url) as link:
        await link.commands.call("PING")
        valkey_server.kill()
        valkey_server.start()
        assert await link.commands.call("PING") == b"PONG"
        assert not link.is_away


async def test_a_server_that_is_away_fails_calls_at_once_and_is_told_of_when_it_is_back(
    valkey_server: ValkeyServer,
) -> None:
    async with linked(valkey_server.url) as link:
        back: list[bool] = []
        link.on_back.append(lambda: back.append(link.is_away))
        valkey_server.kill()
        with pytest.raises(RedisUnavailableError, match=f"127.0.0.1:{valkey_server.port}"):
            await link.appends.call("PING")
        assert link.is_away
        with pytest.raises(RedisUnavailableError):
            await link.commands.call("PING")
        valkey_server.start()
        await until(lambda: back)
        assert back == [False]
        assert await link.appends.call("PING") == b"PONG"


class Resets:
    """Connections that are reset before anything is sent on them, until that is over.

    Attributes:
        count: How many there were.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._connect, self._are_over = asyncio.open_connection, False
        self.count = 0
        patch.setattr(asyncio, "open_connection", self._connected)

    def end(self) -> None:
        self._are_over = True

    async def _connected(self, *place: Any, **how: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._are_over:
            return await self._connect(*place, **how)
        with socket.create_server(("127.0.0.1", 0)) as resetting:
            reader, writer = await self._connect(*resetting.getsockname())
            accepted, _ = resetting.accept()
            with accepted:  # without the time that an orderly end takes
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(writer.transport.is_closing)  # as where the loop has much else to do just then
        self.count += 1
        return reader, writer


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> Resets:
    return Resets(monkeypatch)


@on_each_loop
async def test_a_server_is_found_again_though_connections_to_it_were_reset(valkey_url: str, resets: Resets) -> None:
    async with linked(valkey_url) as link:
        with pytest.raises(RedisUnavailableError):
            await link.commands.call("PING")
        assert link.is_away
        await until(lambda: resets.count > 2)
        resets.end()
        await until(lambda: not link.is_away)
        assert await link.commands.call("PING") == b"PONG"


@on_each_loop
async def test_a_subscription_comes_though_connections_for_it_were_reset(valkey_url: str, resets: Resets) -> None:
    async with linked(valkey_url) as link:
        subscription = Subscription(link)
        await subscription.start()
        try:
            await until(lambda: resets.count > 1)
            resets.end()
            await until(lambda: subscription.is_connected)
        finally:
            await subscription.stop()


async def test_a_server_that_hangs_is_given_up_in_time_and_holds_up_nobody_at_the_end(
    valkey_server: ValkeyServer,
) -> None:
    with FaultProxy(valkey_server.port) as proxy:
        async with linked(f"redis://127.0.0.1:{proxy.port}/0", SHORT) as link:
            await link.commands.call("PING")
            proxy.behave(HALF_OPEN)
            with pytest.raises(RedisUnavailableError):
                await link.commands.call("PING")
            ended = time.monotonic()
        assert time.monotonic() - ended < 5 * SHORT.command
        async with linked(f"redis://127.0.0.1:{proxy.port}/0", SHORT) as link:
            with pytest.raises(RedisUnavailableError):
                await link.commands.call("PING")
            proxy.behave(PASS)
            await until(lambda: not link.is_away)
            assert await link.commands.call("PING") == b"PONG"


async def test_what_takes_no_writes_is_away_until_it_does(valkey_server: ValkeyServer) -> None:
    async with linked(valkey_server.url, SHORT) as link:
        valkey_server.fill()
        link.lost(RuntimeError("a write was refused"))
        await asyncio.sleep(0.5)
        assert link.is_away
        valkey_server.empty()
        await until(lambda: not link.is_away)


async def test_passwords_are_in_no_message() -> None:
    async with linked("redis://me:hunter2@127.0.0.1:1/0", SHORT) as link:
        with pytest.raises(RedisUnavailableError) as told:
            await link.commands.call("PING")
        assert "hunter2" not in str(told.value)
        assert "127.0.0.1:1" in str(told.value)


async def test_a_forked_child_says_nothing_on_its_parents_connections(valkey_url: str) -> None:
    async with linked(valkey_url) as link:
        await link.commands.call("PING")
        place = link.commands._connection._writer.get_extra_info("socket").fileno()
        if not (child := os.fork()):
            os._exit(0 if Path(f"/proc/self/fd/{place}").readlink() == Path(os.devnull) else 1)  # noqa: ASYNC240
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222  it ends at once
        assert await link.commands.call("PING") == b"PONG"


# ------------------------------------------------------------------------------------------------- subscription
async def test_each_channel_has_its_own_ear(valkey_url: str) -> None:
    async with linked(valkey_url) as link, hearing(link, "tests:a", "tests:b") as (_, heard):
        await link.commands.pipeline(
            [("PUBLISH", "tests:a", b"1"), ("PUBLISH", "tests:b", b"\xff"), ("PUBLISH", "c", 3)]
        )
        await until(lambda: len(heard) == 2)
        assert heard == [("tests:a", b"1"), ("tests:b", b"\xff")]


async def test_a_subscription_comes_back_with_its_server_and_says_so(valkey_server: ValkeyServer) -> None:
    async with linked(valkey_server.url) as link, hearing(link, "tests:a") as (subscription, heard):
        connected: list[int] = []
        subscription.on_connected.append(lambda: connected.append(1))
        valkey_server.kill()
        await until(lambda: not subscription.is_connected and subscription.reconnects)
        assert subscription.is_running
        valkey_server.start()
        await until(lambda: connected)
        await link.commands.call("PUBLISH", "tests:a", b"again")
        await until(lambda: heard)


async def test_who_raises_disturbs_no_other_message(valkey_url: str) -> None:
    async with linked(valkey_url) as link, hearing(link, "tests:a") as (subscription, heard):
        subscription._heard[b"tests:a"] = lambda said: heard.append(("a", said[: 1 // len(said)]))
        await link.commands.pipeline([("PUBLISH", "tests:a", b""), ("PUBLISH", "tests:a", b"1")])
        await until(lambda: heard)
        assert subscription.internal_errors == 1
        assert subscription.is_connected


async def test_a_subscription_ends_twice_and_before_it_began(valkey_url: str) -> None:
    async with linked(valkey_url) as link:
        subscription = Subscription(link)
        await subscription.stop()
        await subscription.start()
        await subscription.start()
        await until(lambda: subscription.is_connected)
        await subscription.stop()
        await subscription.stop()
        assert not subscription.is_running
        assert not subscription.is_connected
