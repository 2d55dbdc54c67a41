"""This process's connections to Redis: a fixed few, whose waits are all bounded; and whether Redis is there."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from millstream.errors import MillstreamError
from millstream.ledger.fork import call_in_child
from millstream.log import get_logger
from millstream.portal import end
from millstream.urls import without_password

_log = get_logger("millstream.events")

_FIRST_WAIT, _LAST_WAIT = 0.1, 5.0
"""Seconds between two looks whether Redis is there again: at first, and at most."""

_SOUND_SECONDS: Final = 10.0
"""After this long without an outage the next one begins with short waits again. One that takes the probe and refuses
what is appended would else be found back, and lost, many times a second."""

_PROBE_TTL: Final = 60

BREAKS: Final = (RedisError, OSError, RuntimeError)
"""What the use of a connection raises that breaks. The last is uvloop's, for a write to one that is closed already;
asyncio's own loop takes that, and the read behind it fails."""


class RedisUnavailableError(MillstreamError):
    """Raised when Redis does not answer, or refuses what it is asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long Redis is waited for, in seconds.

    Attributes:
        connect: For a connection.
        command: For an answer.
        idle: After such a silence a connection is checked before it is used.
    """

    connect: float = 2.0
    command: float = 5.0
    idle: float = 15.0


class Lane:
    """One connection, made on first use; those who call at once wait for each other.

    Args:
        link: The link that it belongs to.
    """

    def __init__(self, link: Link) -> None:
        """Connect to nothing yet."""
        self._link = link
        self._connection: Any = None
        self._lock = asyncio.Lock()

    async def call(self, *command: str | bytes | float) -> Any:
        """Return the answer to one command: bytes, an int, `None`, or a list of such.

        Raises:
            RedisUnavailableError: Redis is away, or refuses the command.
        """
        (answer,) = await self.pipeline([command])
        return answer

    async def pipeline(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        """Return the answers to several commands, which are sent together; they may be sent twice.

        Raises:
            RedisUnavailableError: Redis is away, or refuses one of them.
        """
        answers = await self.attempt(commands)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise RedisUnavailableError(f"Redis refuses a command: {answer}") from answer
        return answers

    async def attempt(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        """Return the answers as `pipeline` does; what Redis refuses is answered with the `ResponseError`.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        self._link.check()
        async with self._lock:
            self._link.check()  # it may have gone while others had the connection
            return await self._exchange(commands)

    async def probe(self, *command: str | int) -> None:
        """Send a command though Redis is away.

        Raises:
            RedisUnavailableError: It still is.
        """
        async with self._lock:
            (answer,) = await self._exchange([command])
        if isinstance(answer, ResponseError):
            raise RedisUnavailableError(f"Redis refuses a command: {answer}") from answer

    async def _exchange(self, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
        connection = self._connection
        is_new = connection is None or not connection.is_connected
        if connection is None:
            connection = self._connection = self._link.connection()
        try:
            try:
                return await _ask(connection, commands)
            except (RedisConnectionError, RuntimeError):
                if is_new:
                    raise
                await connection.disconnect(nowait=True)  # it was closed while it was not used: once more, on another
                return await _ask(connection, commands)
        except BREAKS as error:
            raise self._link.lost(error) from error

    async def close(self) -> None:
        """Close the connection; may be called twice."""
        connection, self._connection = self._connection, None
        await _close(connection)


class Link:
    """This process's connections to one Redis: see `Lane`, and `Subscription`, which has one of its own.

    While Redis is away every call fails at once, and one task looks whether it is there again. A forked child begins
    with none of its parent's connections.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database.
        probe_key: The key that is written to find out whether Redis takes anything again.
        bounds: How long it is waited for.

    Attributes:
        url: The URL without its password, for messages.
        appends: The connection that events are appended by.
        commands: The connection for everything else.
        on_back: Called when Redis is there again after it was away.
    """

    def __init__(self, url: str, probe_key: str, bounds: Bounds | None = None) -> None:
        """Connect to nothing yet."""
        self.url = without_password(url)
        self.bounds = bounds or Bounds()
        self._probe_key = probe_key
        self._pool: Any = ConnectionPool.from_url(
            url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=self.bounds.connect,
            socket_timeout=self.bounds.command,
            health_check_interval=self.bounds.idle,
            client_name="millstream",
        )
        self._made: WeakSet[Any] = WeakSet()
        self._prober: asyncio.Task[None] | None = None
        self._wait, self._back_at = _FIRST_WAIT, -math.inf
        self._is_closed = False
        self.appends = Lane(self)
        self.commands = Lane(self)
        self.on_back: list[Callable[[], None]] = []
        call_in_child(self.drop)

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer, or took nothing, when it was last asked."""
        return self._prober is not None

    def check(self) -> None:
        """Raise where nothing is asked at all now.

        Raises:
            RedisUnavailableError: Redis is away, or the link was closed.
        """
        if self._prober is not None or self._is_closed:
            raise RedisUnavailableError(f"Redis at {self.url} is away")

    def connection(self) -> Any:
        """Return a new connection, not connected yet; it is the caller's to close."""
        connection = self._pool.make_connection()
        self._made.add(connection)
        return connection

    def lost(self, error: BaseException) -> RedisUnavailableError:
        """Take note that Redis is away, from whoever finds it so, and return what to raise."""
        if self._prober is None and not self._is_closed:
            _log.warning(
                "Redis is away; jobs go on, and their events come from the ledger",
                url=self.url,
                why=_why(error),
                pid=os.getpid(),
            )
            if time.monotonic() - self._back_at > _SOUND_SECONDS:
                self._wait = _FIRST_WAIT
            self._prober = asyncio.create_task(self._probe(), name="millstream redis probe")
        return RedisUnavailableError(f"Redis at {self.url} is away: {_why(error)}")

    async def close(self) -> None:
        """Close all connections of lanes; may be called twice."""
        self._is_closed = True
        prober, self._prober = self._prober, None
        await end(prober)
        await self.appends.close()
        await self.commands.close()

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(self._wait)
            self._wait = min(2 * self._wait, _LAST_WAIT)
            with suppress(RedisUnavailableError):
                await self.commands.probe("SET", self._probe_key, 1, "EX", _PROBE_TTL)
                break
        self._prober, self._back_at = None, time.monotonic()
        _log.warning("Redis is there again", url=self.url, pid=os.getpid())
        for told in self.on_back:
            told()

    def drop(self) -> None:
        """Let go of all connections at once, without a word: in a child, and of a loop that does not run any more.

        Their numbers stay taken, by nothing, so that whoever closes them later closes nobody else's.
        """
        for connection in list(self._made):
            if connection.is_connected:
                place = connection._writer.get_extra_info("socket")  # noqa: SLF001  there is no other way to it
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, place.fileno())
                os.close(nothing)
        self._made.clear()


async def _ask(connection: Any, commands: Sequence[Sequence[str | bytes | float]]) -> list[Any]:
    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


async def _close(connection: Any) -> None:
    if connection is not None:
        with suppress(*BREAKS):
            await connection.disconnect(nowait=True)


def _why(error: BaseException) -> str:
    return without_password(str(error)) or type(error).__name__
