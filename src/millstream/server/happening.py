"""A job's events as they come, to one reader: as lines of JSON, or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millstream.model.event import Event
from millstream.server.builds.lines import NDJSON, SSE, SSE_HEAD, SSE_PING
from millstream.server.builds.streams import PING_SECONDS, STREAMED


class Happening(Response):
    """Streams events until there are no more, the reader is gone, or the server stops.

    It holds one event at a time: a slow reader holds up nobody but itself, and costs nothing.

    Args:
        events: The events.
        tell: Makes of an event what is told of it.
        stopping: Set when the server stops.
        sse: Whether to write server-sent events, whose ids are cursors; else a line of JSON for each.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        tell: Callable[[Event], Any],
        stopping: asyncio.Event,
        *,
        sse: bool,
    ) -> None:
        """Take what is streamed."""
        super().__init__(media_type=SSE if sse else NDJSON, headers=STREAMED)
        del self.headers["content-length"]
        self._events, self._tell, self._stopping, self._is_sse = events, tell, stopping, sse

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        with suppress(OSError):  # the reader is gone
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_when_gone, receive, group.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._stream(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                group.cancel_scope.cancel()

    async def _stop_when_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _stream(self, send: Send) -> None:
        stopped = asyncio.ensure_future(self._stopping.wait())
        coming: asyncio.Future[Event] | None = None
        try:
            if self._is_sse:
                await self._send(send, SSE_HEAD)
            while not stopped.done():
                coming = coming or asyncio.ensure_future(anext(self._events))
                either: set[asyncio.Future[Any]] = {coming, stopped}
                await asyncio.wait(either, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    event, coming = coming.result(), None
                    await self._send(send, self._written(event))
                elif self._is_sse:
                    await self._send(send, SSE_PING)
        except StopAsyncIteration:
            return
        finally:
            for waiting in (stopped, coming):
                if waiting is not None:
                    waiting.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration):
                        await waiting
            await self._events.aclose()

    async def _send(self, send: Send, piece: bytes) -> None:
        await send({"type": "http.response.body", "body": piece, "more_body": True})

    def _written(self, event: Event) -> bytes:
        told = msgspec.json.encode(self._tell(event))
        if self._is_sse:
            return b"id: %s\ndata: %s\n\n" % (str(event.cursor).encode(), told)
        return told + b"\n"
