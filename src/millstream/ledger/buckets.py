"""Limits on how often something is done, which all processes share: token buckets, one row each.

Of a bucket there is only the time at which it will be full again (the generic cell rate algorithm). Without a row, or
once that time has come, it is full.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from millstream.ledger import schema
from millstream.ledger.database import Connection, transaction
from millstream.ledger.queries import Queries
from millstream.ledger.statements import Statement, given

B = schema.bucket.c

_SECONDS, _INTERVAL = given("seconds", sa.Double), given("interval", sa.Double)

_TOLERANCE = 0.01
"""By which part of the time of one token it may come too early, so that sums of fractions are no reason to wait."""

_AT_ONCE = 1000


class Take(msgspec.Struct, frozen=True):
    """A wish for one token.

    Attributes:
        bucket: Name of the bucket, whatever characters it has; the table has only its digest.
        capacity: Tokens of a full bucket.
        seconds: In how long an empty one fills up.
    """

    bucket: str
    capacity: int
    seconds: float

    def values(self) -> dict[str, Any]:
        """Return what the statements are filled with."""
        name = hashlib.sha256(self.bucket.encode("utf-8", "surrogatepass")).hexdigest()
        interval = self.seconds / self.capacity
        return {"name": name, "interval": interval, "seconds": self.seconds, "slack": interval * _TOLERANCE}


class Buckets:
    """Takes tokens.

    Args:
        queries: Knows the database's clock.
    """

    def __init__(self, queries: Queries) -> None:
        """Compile nothing yet."""
        self._queries = queries
        self._now = now = queries.now
        least, greatest = (sa.func.min, sa.func.max) if queries.is_sqlite else (sa.func.least, sa.func.greatest)
        # Never later than an empty bucket would be full: the clock of SQLite begins anew with the machine.
        self._full_then = greatest(now, least(B.full_at, now + _SECONDS)) + _INTERVAL
        self._is_there = self._full_then <= now + _SECONDS + given("slack", sa.Double)

    @cached_property
    def _taking(self) -> Statement:
        insert = sqlite.insert if self._queries.is_sqlite else postgresql.insert
        taken = insert(schema.bucket).values(name=given("name"), full_at=self._now + _INTERVAL)
        changed: Any = {B.full_at: self._full_then}
        return self._queries.statement(
            taken.on_conflict_do_update(index_elements=[B.name], set_=changed, where=self._is_there)
        )

    @cached_property
    def _waiting(self) -> Statement:
        wait = self._full_then - (self._now + _SECONDS)
        return self._queries.statement(sa.select(wait).where(B.name == given("name"), ~self._is_there))

    @cached_property
    def _giving(self) -> Statement:
        fuller = sa.update(schema.bucket).where(B.name == given("name")).values(full_at=B.full_at - _INTERVAL)
        return self._queries.statement(fuller)

    @cached_property
    def _full(self) -> Statement:
        return self._queries.statement(sa.select(B.name).where(B.full_at <= self._now).limit(1))

    @cached_property
    def _sweeping(self) -> Statement:
        is_full = B.full_at <= self._now
        full = sa.select(B.name).where(is_full).limit(_AT_ONCE)
        return self._queries.statement(sa.delete(schema.bucket).where(B.name.in_(full), is_full))

    def wait(self, connection: Connection, take: Take) -> float:
        """Return how long it is until a bucket has a token; 0.0 where it has one. Seconds."""
        rows = connection.run(self._waiting.sql, self._waiting.fill(**take.values()))
        return float(rows[0][0]) if rows else 0.0

    def take(self, connection: Connection, take: Take) -> float:
        """Take a token; return 0.0, or the seconds until there is one."""
        with transaction(connection):
            if connection.change(self._taking.sql, self._taking.fill(**take.values())):
                return 0.0
            return self.wait(connection, take)

    def give_back(self, connection: Connection, take: Take) -> None:
        """Put a token back; a bucket that is full stays full."""
        with transaction(connection):
            connection.change(self._giving.sql, self._giving.fill(**take.values()))

    def is_any_full(self, connection: Connection) -> bool:
        """Return whether there is one to sweep."""
        return bool(connection.run(self._full.sql, self._full.fill()))

    def sweep(self, connection: Connection) -> None:
        """Forget buckets that are full, a bounded number of them."""
        with transaction(connection):
            connection.change(self._sweeping.sql, self._sweeping.fill())
