"""What Uvicorn speaks to a client, with bounds on the head of a request: its bytes, and the time until it is there.

And with a polite end: a server that takes no more connections still answers what comes on those that it has.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 32 << 10
"""What comes before the body; twice what the headers may have, since the path is in it."""

HEAD_SECONDS: Final = 30.0
"""In which a head has to be there: a client that sends a letter a minute holds a connection for nothing."""

LINGER_SECONDS: Final = 0.3
"""For which a connection stays open after the server has begun to stop: a request may just be on its way."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose next request does not begin to make sense in time, or within its bound."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Expect a head."""
        super().__init__(*args, **options)
        self._head_bytes = 0
        self._expects_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_new = True
        self._is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it makes a head too large."""
        if self._expects_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)
        super().data_received(data)
        if self._expects_head and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The headers are too large.")

    def on_headers_complete(self) -> None:
        """Begin with the request."""
        self._expects_head, self._head_bytes = False, 0
        self._stop_timer()
        super().on_headers_complete()
        self._is_new = False
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Expect the next one."""
        self._expects_head = True
        super().on_message_complete()

    def shutdown(self) -> None:
        """Answer what is open, or comes in a moment, and then close."""
        self._is_ending = True
        if self._is_idle:
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        return self._is_new or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._is_idle and not self._head_bytes:
            self._give_up()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
