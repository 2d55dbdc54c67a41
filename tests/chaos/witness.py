"""What the database itself can tell of a ledger, past the system that wrote it: triggers that witness, and a dump."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from millstream.ledger.sqlite import boot_seconds
from millstream.testing.history import ChangeRow, ClaimRow, SegmentRow

Row = tuple[Any, ...]

_HEAD = "COALESCE((SELECT next_seq - 1 FROM millstream_job WHERE id = NEW.job), 0)"
_CLAIMED = f"INSERT INTO chaos_claim VALUES (NEW.job, NEW.segment, NEW.attempt, NEW.holder, {_HEAD})"  # noqa: S608
_MOVED = "INSERT INTO chaos_change VALUES (NEW.id, NULL, OLD.state, NEW.state)"
_CHANGED = "INSERT INTO chaos_change VALUES (OLD.job, OLD.seq, '', '')"
_TRIGGERS = {
    "claimed": ("INSERT ON millstream_claim", "", _CLAIMED),
    "moved": ("UPDATE ON millstream_job", "WHEN (OLD.state <> NEW.state)", _MOVED),
    "rewritten": ("UPDATE ON millstream_event", "", _CHANGED),
    "erased": ("DELETE ON millstream_event", "", _CHANGED),
}
_TABLES = (
    "CREATE TABLE chaos_claim (job TEXT, segment INTEGER, attempt INTEGER, holder TEXT, head INTEGER)",
    "CREATE TABLE chaos_change (job TEXT, seq INTEGER, before TEXT, after TEXT)",
)


class Witness:
    """Looks at a ledger's tables without millstream.

    Args:
        url: The ledger's, as millstream takes it.
    """

    def __init__(self, url: str) -> None:
        """Open nothing yet."""
        self._url = url

    @property
    def is_postgres(self) -> bool:
        """Whether the ledger is in PostgreSQL."""
        return self._url.startswith("postgresql")

    def install(self) -> None:
        """Let the database note each claim, each move of a job's state, and each change of an event."""
        with self._connected() as execute:
            for statement in (*_TABLES, *(_postgres() if self.is_postgres else _sqlite())):
                execute(statement)

    def rows(self, query: str) -> list[Row]:
        """Return what a query finds."""
        with self._connected() as execute:
            return list(execute(query))

    def count(self, query: str) -> int:
        """Return the number that a query finds."""
        return int(self.rows(query)[0][0])

    def claims(self) -> tuple[ClaimRow, ...]:
        """Return every claim there ever was."""
        rows = self.rows("SELECT job, segment, attempt, holder, head FROM chaos_claim")
        return tuple(
            ClaimRow(job=job, segment=segment, attempt=attempt, pid=pid_of(holder), head=head)
            for job, segment, attempt, holder, head in rows
        )

    def changes(self) -> tuple[ChangeRow, ...]:
        """Return each move of a job's state, and each change of an event."""
        rows = self.rows("SELECT job, seq, before, after FROM chaos_change")
        return tuple(ChangeRow(job=job, seq=seq, before=before, after=after) for job, seq, before, after in rows)

    def segments(self) -> tuple[SegmentRow, ...]:
        """Return the segments as they are."""
        rows = self.rows("SELECT job, id, state, holder FROM millstream_segment")
        return tuple(
            SegmentRow(job=job, segment=segment, state=state, pid=pid_of(holder) if holder else None)
            for job, segment, state, holder in rows
        )

    def members(self) -> list[int]:
        """Return the processes whose membership has neither ended nor run out, one for each id that they have."""
        now = "extract(epoch FROM clock_timestamp())" if self.is_postgres else f"{boot_seconds()}"
        query = f"SELECT id FROM millstream_process WHERE NOT dead AND lease_end > {now}"  # noqa: S608  a number
        return [pid_of(member) for (member,) in self.rows(query)]

    @contextmanager
    def _connected(self) -> Iterator[Callable[[str], Iterable[Row]]]:
        if self.is_postgres:
            with psycopg.connect(self._url, autocommit=True) as connection:
                yield lambda query: _fetched(connection.execute(query.encode()))
        else:
            path = self._url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
                yield lambda query: list(connection.execute(query))


def pid_of(holder: str) -> int:
    """Return the process that a holder's id names."""
    return int(holder.partition("-")[0])


def _fetched(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _sqlite() -> Iterator[str]:
    for name, (when, condition, act) in _TRIGGERS.items():
        yield f"CREATE TRIGGER chaos_{name} AFTER {when} {condition} BEGIN {act}; END"


def _postgres() -> Iterator[str]:
    for name, (when, condition, act) in _TRIGGERS.items():
        yield f"CREATE FUNCTION chaos_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {act}; RETURN NULL; END $$"
        yield f"CREATE TRIGGER chaos_{name} AFTER {when} FOR EACH ROW {condition} EXECUTE FUNCTION chaos_{name}()"
