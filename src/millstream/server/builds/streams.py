"""A build's lines as the body of an HTTP answer that goes on for as long as the build does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.server.builds.feed import BATCH_BYTES, Reader
from millstream.server.builds.lines import SSE, SSE_HEAD, SSE_PING, Line, framed

PING_SECONDS: Final = 15.0
"""How long a stream of server-sent events is silent at most, so that no proxy on the way takes it for dead."""

STREAMED: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers that keep what is on the way from holding a stream back."""


_STREAM: Final = "millstream.stream"
"""Where a stream waits in the scope of its request for its layer."""


class StreamLayer:
    """Sends the streams that the routes below answer with.

    Args:
        app: What is below.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Take what is below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request answered, and send the stream that is the answer, if it is one."""
        await self._app(scope, receive, send)
        stream: LineStream | None = scope.pop(_STREAM, None)
        if stream is not None:
            await stream.answer(receive, send)


class LineStream(Response):
    """Sends lines as they come, each whole; ends behind the last one, when the client is gone, or politely before.

    Whatever a client does not take stays where it is for all: this holds no more than one piece of it.

    Args:
        reading: Begins to read, and ends it.
        kind: How lines are framed: `NDJSON` or `SSE`.
        headers: Further headers of the answer.
    """

    def __init__(
        self, reading: Callable[[], AbstractContextManager[Reader]], kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send nothing yet."""
        super().__init__(None, 200, {**STREAMED, **(headers or {})}, kind)
        del self.headers["content-length"]
        self._reading, self._kind = reading, kind

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Have the layer answer once all that handled the request is gone: an idle stream costs half of it then."""
        scope[_STREAM] = self

    async def answer(self, receive: Receive, send: Send) -> None:
        """Send the answer."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with self._reading() as reader:
            listening = asyncio.create_task(until_gone(receive, reader))
            try:
                await self._send_lines(reader, send)
            finally:
                listening.cancel()
        await send({"type": "http.response.body", "body": b""})

    def framed(self, lines: Sequence[Line]) -> bytes:
        """Return lines as they are sent."""
        return framed(lines, self._kind)

    async def _send_lines(self, reader: Reader, send: Send) -> None:
        is_sse = self._kind == SSE
        if is_sse:
            await send({"type": "http.response.body", "body": SSE_HEAD, "more_body": True})
        while not reader.is_over:
            lines = await reader.next(PING_SECONDS if is_sse else None)
            if lines:
                await self._send(self.framed(lines), send)
                if lines[-1].is_end:
                    return
            elif is_sse and not reader.is_over:
                await send({"type": "http.response.body", "body": SSE_PING, "more_body": True})

    @staticmethod
    async def _send(body: bytes, send: Send) -> None:
        if len(body) <= BATCH_BYTES:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            return
        for start in range(0, len(body), BATCH_BYTES):
            await send({"type": "http.response.body", "body": body[start : start + BATCH_BYTES], "more_body": True})


async def until_gone(receive: Receive, reader: Reader) -> None:
    """Stop the reader when its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
    reader.stop()
