"""What readers of builds are told, line by line, and whether each was told all of it, once, and in order."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from millstream.model.event import Cursor
from millstream.testing.history import Began, ClaimRow, History, Seen
from millstream.testing.invariants import Violation


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The lines that one event of a job gave, as one reader got them.

    Attributes:
        job: Id of the job.
        reader: One reading from the beginning, over however many connections.
        cursor: Where the event stands.
        digests: Of each line, what it says.
        is_end: Whether the last of them is the end of the build.
    """

    job: str
    reader: str
    cursor: str
    digests: tuple[str, ...]
    is_end: bool


class ToldLog:
    """A file of what readers of builds are told.

    Args:
        path: The file; it is made with the first line.
    """

    def __init__(self, path: Path) -> None:
        """Write nothing yet."""
        self._path = path

    def put(self, told: Told) -> None:
        """Append what a reader was told."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(told) + b"\n")
        finally:
            os.close(descriptor)

    def read(self) -> list[Told]:
        """Return all of it."""
        if not self._path.exists():
            return []
        return [_read(line) for line in self._path.read_bytes().splitlines()]


_read = msgspec.json.Decoder(Told).decode


def misread(told: Iterable[Told], late: str) -> Iterator[Violation]:
    """Yield a violation for each reader of a build who was not told exactly what one who came late was told.

    Args:
        told: What all readers were told.
        late: Begins the names of those who came when all had ended.
    """
    readings: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for one in told:
        readings[one.job, one.reader].append(one)
    whole = {job: _durable(read) for (job, reader), read in readings.items() if reader.startswith(late)}
    for (job, reader), read in readings.items():
        cursors = [Cursor.parse(one.cursor) for one in read]
        if any(not one < other for one, other in pairwise(cursors)):
            yield Violation("I6", job, f"reader {reader} of the build was told {_short(read)}, out of order")
        ends = [index for index, one in enumerate(read) if one.is_end]
        if ends != [len(read) - 1]:
            yield Violation("I6", job, f"reader {reader} of the build was told its end at {ends} of {len(read)}")
        elif job not in whole:
            yield Violation("I6", job, f"reader {reader} read a build to its end that nobody could read later")
        elif _durable(read) != whole[job]:
            yield Violation("I6", job, f"reader {reader} of the build was told {_differs(_durable(read), whole[job])}")


def _durable(read: Iterable[Told]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.cursor, one.digests) for one in read if one.cursor.endswith("-0")]


def _short(read: list[Told]) -> str:
    return " ".join(one.cursor for one in read)


def _differs(given: list[tuple[str, tuple[str, ...]]], whole: list[tuple[str, tuple[str, ...]]]) -> str:
    missing = [cursor for cursor, _ in whole if cursor not in dict(given)]
    beyond = [cursor for cursor, _ in given if cursor not in dict(whole)]
    other = [cursor for cursor, lines in whole if dict(given).get(cursor, lines) != lines]
    return f"other lines than one who came later: without {missing}, beyond {beyond}, different {other}"


def outdated(history: History) -> Iterator[Violation]:
    """Yield a violation for each line of a log that a process put into a job which somebody else had taken over."""
    claims: dict[str, list[ClaimRow]] = defaultdict(list)
    for claim in sorted(history.dump.claims, key=lambda claim: (claim.job, claim.attempt)):
        claims[claim.job].append(claim)
    effects = {one.mark: one for one in history.seen if isinstance(one, Began)}
    for one in history.seen:
        if not isinstance(one, Seen) or not one.k or one.digest not in effects:
            continue
        held = claims[one.job]
        ends = [*(claim.head for claim in held[1:]), one.seq]
        holders = {claim.pid for claim, end in zip(held, ends, strict=True) if claim.head <= one.seq <= end}
        pid = effects[one.digest].pid
        if pid not in holders:
            what = f"reader {one.reader} was given {one.seq}-{one.k} by process {pid} while {holders} held it"
            yield Violation("I10", one.job, what)
