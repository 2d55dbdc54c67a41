"""The one connection by which this process hears what others say on all channels; made anew whenever it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from millstream.clock import chance
from millstream.events.redis.link import BREAKS, Link
from millstream.log import get_logger
from millstream.portal import end

_log = get_logger("millstream.events")

FIRST_WAIT: Final = 0.1
LAST_WAIT: Final = 30.0
"""Seconds between two tries to connect: at first, and at most."""

_PING_SECONDS: Final = 10.0
"""After such a silence it is asked whether the other end is still there."""


class Subscription:
    """Hears messages on channels, each with one who is called for it, on the loop of `start`.

    What is said while there is no connection is lost: whoever depends on it looks for itself when `on_connected` is
    called, which happens after each (re)connection, and now and then. `start` and `stop` may be called twice, and
    `stop` before `start`.

    Args:
        link: Where Redis is.

    Attributes:
        on_connected: Called when all channels are heard from now on.
        is_connected: Whether they are.
        is_running: Whether it was started, and not stopped.
        reconnects: How often a connection was lost, or could not be made.
        internal_errors: How often one who was called raised.

    Example:
        >>> async def hear(link, show):
        ...     subscription = Subscription(link)
        ...     subscription.hear("news", show)
        ...     await subscription.start()
    """

    def __init__(self, link: Link) -> None:
        """Hear nothing yet."""
        self._link = link
        self._heard: dict[bytes, Callable[[bytes], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.on_connected: list[Callable[[], None]] = []
        self.is_connected = False
        self.reconnects = self.internal_errors = 0
        link.on_back.append(self._hurry.set)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._task is not None

    def hear(self, channel: str, heard: Callable[[bytes], None]) -> None:
        """Have each message on a channel told; before `start`, and once for a channel.

        Args:
            channel: The channel.
            heard: Called with each message. It must not block; what it raises is logged and counted.
        """
        self._heard[channel.encode()] = heard

    async def start(self) -> None:
        """Begin to hear; returns at once, whether or not Redis is there."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="millstream redis subscription")

    async def stop(self) -> None:
        """Hear nothing more, and return when the connection is closed."""
        task, self._task = self._task, None
        await end(task)

    async def _serve(self) -> None:
        wait = FIRST_WAIT
        while True:
            connection = self._link.connection()
            try:
                await self._subscribe(connection)
                wait = FIRST_WAIT
                await self._listen(connection)
            except BREAKS as error:
                self.reconnects += 1
                _log.debug("the subscription is lost for now", url=self._link.url, error=type(error).__name__)
            finally:
                self.is_connected = False
                with suppress(*BREAKS):
                    await connection.disconnect(nowait=True)
            self._hurry.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), wait * (0.8 + 0.4 * chance()))
            wait = min(2 * wait, LAST_WAIT)

    async def _subscribe(self, connection: Any) -> None:
        """Return when all channels are heard."""
        await connection.connect()
        if self._heard:
            await connection.send_command("SUBSCRIBE", *self._heard)
        for _ in self._heard:
            await connection.read_response()
        self.is_connected = True
        for told in self.on_connected:
            self._tell(told)

    async def _listen(self, connection: Any) -> None:
        """Pass on what comes, until the connection breaks, or is silent though it was asked."""
        is_asked = False
        while True:
            message = await connection.read_response(timeout=self._link.bounds.command if is_asked else _PING_SECONDS)
            if message is None:
                if is_asked:
                    raise ConnectionResetError("Redis does not answer any more")
                await connection.send_command("PING", check_health=False)
                is_asked = True
                continue
            is_asked = False
            if message[0] == b"message":
                self._tell(partial(self._heard[message[1]], message[2]))

    def _tell(self, told: Callable[[], None]) -> None:
        try:
            told()
        except Exception as error:  # noqa: BLE001  whatever it is, the next message is heard
            self.internal_errors += 1
            _log.error("what was heard through Redis could not be taken in", exc_info=error)
