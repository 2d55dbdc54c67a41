"""What was seen of a system from outside: a log of observations, and a dump of the ledger at the end.

`violations` (in `invariants`) judges a history. Nothing in it is taken from the system's own account of itself alone:
clients log what they were told, tasks log what they did, and the dump is compared with both.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

FINAL = frozenset({"succeeded", "failed", "cancelled"})
"""The states that a job stays in."""


class Observation(msgspec.Struct, frozen=True, tag=True, tag_field="saw", kw_only=True, omit_defaults=True):
    """Something that one observer saw.

    Attributes:
        job: Id of the job that it is about.
    """

    job: str


class Submitted(Observation, frozen=True, kw_only=True):
    """A client handed a job in.

    Attributes:
        outcome: What it was told: `unknown` where no answer came.
        key: Its idempotency key.
        body: Digest of what it handed in.
    """

    outcome: Literal["accepted", "refused", "unknown"] = "accepted"
    key: str | None = None
    body: str = ""


class Seen(Observation, frozen=True, kw_only=True):
    """A reader was given an event.

    Attributes:
        reader: One reading from one cursor on.
        seq: Number of the event, or of the last durable one before it.
        k: 0 for a durable event.
        type: Its type.
        digest: Of all that it says.
    """

    reader: str
    seq: int
    k: int = 0
    type: str
    digest: str = ""


class StreamOpened(Observation, frozen=True, kw_only=True):
    """A reader began to read.

    Attributes:
        reader: See `Seen`.
        seq: The cursor after which it reads.
        k: The cursor's other half.
    """

    reader: str
    seq: int = 0
    k: int = 0


class StreamEnded(Observation, frozen=True, kw_only=True):
    """A reader was told that no more events come.

    Attributes:
        reader: See `Seen`.
    """

    reader: str


class Looked(Observation, frozen=True, kw_only=True):
    """A client asked for a job.

    Attributes:
        state: The answer; `None`: there is no such job.
        result: Digest of the result, where the job had succeeded.
    """

    state: str | None
    result: str | None = None


class CancelAnswered(Observation, frozen=True, kw_only=True):
    """A client was told what became of its cancel.

    Attributes:
        state: The state that it was told.
        at: When; seconds of the host's monotonic clock.
    """

    state: str
    at: float


class Began(Observation, frozen=True, kw_only=True):
    """A task began to have its effect.

    Attributes:
        node: Path of its node.
        attempt: Which attempt of the node it is, from 1.
        pid: The process that claimed the job.
        mark: Names this one effect; the task's value and its exception carry it.
        most: How many attempts its policy allows.
        is_once: Whether it must never run twice.
        reads: Marks of the values that it was given by nodes whose results are to be committed first.
        at: When; seconds of the host's monotonic clock.
    """

    node: str
    attempt: int
    pid: int
    mark: str
    most: int = 1
    is_once: bool = False
    reads: tuple[str, ...] = ()
    at: float


class Finished(Observation, frozen=True, kw_only=True):
    """A task had its effect, and is about to return or raise.

    Attributes:
        mark: See `Began`.
        pid: The process that claimed the job.
    """

    mark: str
    pid: int


class Died(Observation, frozen=True, kw_only=True):
    """A process was ended, or stopped for a while, from outside or at a crash point.

    Attributes:
        job: Empty: it may have held many.
        pid: The process.
        how: What was done to it.
        point: The crash point at which it was; empty where it was not led there.
    """

    job: str = ""
    pid: int
    how: Literal["kill", "stop", "term", "raise"] = "kill"
    point: str = ""


class LeftOver(Observation, frozen=True, kw_only=True):
    """Something was still there when all was at rest.

    Attributes:
        job: Empty where it belongs to none.
        what: Such as `outbox rows`, or `threads`.
        count: How many more than at the beginning.
    """

    job: str = ""
    what: str
    count: int


Observed = Submitted | StreamOpened | Seen | StreamEnded | Looked | CancelAnswered | Began | Finished | Died | LeftOver


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job in the dump.

    Attributes:
        id: Its id.
        state: Where it stands.
        next_seq: The number that its next event would get.
        cancel_requested: Whether someone asked to stop it.
        key: Its idempotency key.
        result: Digest of its result.
    """

    id: str
    state: str
    next_seq: int
    cancel_requested: bool = False
    key: str | None = None
    result: str | None = None


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A durable event in the dump.

    Attributes:
        job: Its job.
        seq: Its number.
        type: Its type.
        node: Path of the node that it is about.
        attempt: The attempt that it tells of: of the segment for `started`, else of the node.
        mark: The effect that it tells of.
        state: The state that the last event tells.
        segment: The side segment that it tells of: `handed_out` and `taken_back` do.
        nodes: Paths of the nodes that it tells to be handed out.
        digest: Of all that it says, as in `Seen`.
    """

    job: str
    seq: int
    type: str
    node: str | None = None
    attempt: int | None = None
    mark: str | None = None
    state: str | None = None
    segment: int | None = None
    nodes: tuple[str, ...] = ()
    digest: str = ""


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True):
    """A claim in the dump: the ledger keeps all that there ever were.

    Attributes:
        job: Its job.
        segment: The segment that was claimed.
        attempt: Which claim of that segment it is, from 1.
        pid: The process that claimed.
        head: Number of the job's last event when it was claimed.
    """

    job: str
    segment: int = 1
    attempt: int
    pid: int
    head: int


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """A segment in the dump.

    Attributes:
        job: Its job.
        segment: Its number.
        state: Where it stands.
        pid: The process that holds it.
    """

    job: str
    segment: int = 1
    state: str
    pid: int | None = None


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a row that the ledger itself witnessed, by a trigger.

    Attributes:
        job: The job.
        seq: The event that was changed or removed; `None`: it is the job's state that changed.
        before: The former state.
        after: The later state.
    """

    job: str
    seq: int | None = None
    before: str = ""
    after: str = ""


class Dump(msgspec.Struct, frozen=True):
    """The ledger's rows when all was at rest, and what changed on the way."""

    jobs: tuple[JobRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    claims: tuple[ClaimRow, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    changes: tuple[ChangeRow, ...] = ()


class History(msgspec.Struct, frozen=True):
    """Everything that was seen of one system.

    Attributes:
        seen: The observations; those of one observer are in their order.
        dump: The ledger at the end.
    """

    seen: tuple[Observed, ...]
    dump: Dump


class ObservationLog:
    """A file that observers in any process append to. What was written before a kill is not lost by it.

    Args:
        path: The file; it is made with the first observation.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def put(self, observation: Observed) -> None:
        """Append an observation, in one write."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(observation) + b"\n")
        finally:
            os.close(descriptor)

    def read(self) -> tuple[Observed, ...]:
        """Return what was observed so far."""
        if not self.path.exists():
            return ()
        return self.parse(self.path.read_bytes())

    @staticmethod
    def parse(written: bytes) -> tuple[Observed, ...]:
        """Return the observations of whole lines of a log."""
        return tuple(map(_read, written.splitlines()))


_read = msgspec.json.Decoder(Observed).decode


def now() -> float:
    """Return the time of an observation: seconds of a clock that all processes of this host share."""
    return time.monotonic()


def digest(*values: Any) -> str:
    """Return a short text that is the same for the same values, whatever process they were in.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    written = msgspec.json.encode(values, order="deterministic", enc_hook=repr)
    return hashlib.sha256(written).hexdigest()[:16]


def merge(*logs: Iterable[Observed]) -> tuple[Observed, ...]:
    """Return the observations of several logs as one."""
    return tuple(one for log in logs for one in log)
