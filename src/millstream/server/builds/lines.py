"""A build's events as bytes: encoded once, framed as newline-delimited JSON or as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import orjson

from millstream.model.event import Cursor, Event
from millstream.server.builds.translate import Told

NDJSON: Final = "application/x-ndjson"
SSE: Final = "text/event-stream"
RETRY_MILLISECONDS: Final = 1000
"""How soon a browser connects again whose stream was cut."""

SSE_HEAD: Final = b"retry: %d\n\n" % RETRY_MILLISECONDS
SSE_PING: Final = b": ping\n\n"


class Line(NamedTuple):
    """One event of a build, encoded.

    Attributes:
        cursor: Where the job's event stands that it comes from.
        body: `{"event": …, "data": …}` as JSON, which has no line break in it, and a blank line.
        is_last: Whether it is the last one that comes from that event, so that a reader may go on after the cursor.
        is_end: Whether no line follows in this build.
    """

    cursor: Cursor
    body: bytes
    is_last: bool
    is_end: bool

    @property
    def sse_head(self) -> bytes:
        """What stands before the body in a stream of server-sent events; its id is the cursor one may go on after."""
        return b"id: %b\ndata: " % str(self.cursor).encode() if self.is_last else b"data: "


def encode_lines(event: Event, told: Sequence[Told]) -> list[Line]:
    r"""Return the lines of what an event gave.

    >>> framed(encode_lines(Event(3, 1, "token", 0.0), [Told("token", {"chunk": "a", "id": "m"})]), SSE)
    b'id: 3-1\ndata: {"event":"token","data":{"chunk":"a","id":"m"}}\n\n'
    """
    last = len(told) - 1
    return [Line(event.cursor, encode(one), index == last, one.name == "end") for index, one in enumerate(told)]


def encode(told: Told) -> bytes:
    """Return an event of a build as JSON, and a blank line: as both framings have it."""
    whole = {"event": told.name, "data": told.data}
    try:
        return orjson.dumps(whole) + b"\n\n"
    except TypeError:  # integers above 64 bits, which JSON has and orjson does not
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n\n"


def framed(lines: Iterable[Line], kind: str) -> bytes:
    """Return lines as they are sent in a stream of a kind, `NDJSON` or `SSE`."""
    if kind == SSE:
        return b"".join([part for line in lines for part in (line.sse_head, line.body)])
    return b"".join([line.body for line in lines])
