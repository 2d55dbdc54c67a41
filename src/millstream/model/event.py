"""Events and cursors: past-tense facts about one job, and positions among them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from millstream.errors import InvalidCursorError

_CURSOR = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")  # 18 digits fit the integers of every store


class Cursor(NamedTuple):
    """A position in an event log, written `<seq>-<k>`; it is a legal id of a Redis stream.

    Attributes:
        seq: Number of the last durable event, dense from 1 for ever; 0 stands before the first.
        k: 0 for a durable event; volatile ones after it are numbered from 1.
    """

    seq: int
    k: int = 0

    def __str__(self) -> str:
        """Return the written form."""
        return f"{self.seq}-{self.k}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that `text` writes.

        Raises:
            InvalidCursorError: `text` is not of the form `<seq>-<k>`.

        >>> Cursor.parse("12-3")
        Cursor(seq=12, k=3)
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            message = f"{text!r} is not a cursor; one looks like '12-0'"
            raise InvalidCursorError(message)
        return cls(int(match[1]), int(match[2]))


START = Cursor(0, 0)


class Event(msgspec.Struct, frozen=True, gc=False):
    """A past-tense fact about one job.

    Durable types, numbered by `seq`: `planned` (`{"nodes": count}`), `started` (of the segment: `{"attempt",
    "process"}`), `expanded` (`{"nodes": count}`), `node_succeeded`, `node_failed`, `node_retried`, `node_skipped`,
    `node_upstream_failed`, `node_cancelled`, `routed`, `waiting` (`{"reason", ...}`), `answered`, `noted`, `continued`,
    `state` (of a task's own: `{"state", "meta"}`), `called` (a task submitted a job: `{"id"}`), `handed_out` (nodes to
    be executed by a side segment: `{"segment", "queue", "nodes"}`), `taken_back` (such a segment executes nothing more:
    `{"segment"}`), and as the last one `ended` (`{"state", "reason"}`). Volatile types: `node_started` (durable where
    the task must run only once), `progress`, `log`, and whatever a task emits.

    Attributes:
        seq: See `Cursor`.
        k: See `Cursor`.
        type: What happened.
        at: When; seconds since the epoch, UTC.
        node: Path of the node that it is about, where there is one.
        data: What else there is to say, depending on the type.
    """

    seq: int
    k: int
    type: str
    at: float
    node: str | None = None
    data: Any = None

    @property
    def cursor(self) -> Cursor:
        """Where this event stands; reading after it gives what follows."""
        return Cursor(self.seq, self.k)

    @property
    def is_durable(self) -> bool:
        """Whether the ledger holds this event too."""
        return self.k == 0


Draft = tuple[bool, str, float, str | None, Any]
"""An event before it is numbered: (durable, type, at, node, data). A bare tuple, since two are made per node."""

TERMINAL = "ended"
