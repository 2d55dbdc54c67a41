"""Membership: who is alive, and what becomes of the segments of those who are not."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from millstream import points
from millstream.errors import SettingsError
from millstream.ledger import schema
from millstream.ledger.base import Held, StorageFullError
from millstream.ledger.database import Connection, transaction
from millstream.ledger.presence import Presence
from millstream.ledger.queries import J, P, Queries, S
from millstream.ledger.standing import standing_of
from millstream.ledger.statements import Statement, given
from millstream.log import get_logger

_log = get_logger("millstream.ledger")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Proof(Protocol):
    """Proves that members have died, without waiting for their leases to run out."""

    def begin(self, member: str) -> str | None:
        """Begin to prove that a member of this process is alive; returns what `is_dead` needs to be told."""

    def end(self, member: str) -> None:
        """Stop proving that; does nothing the second time."""

    def is_dead(self, member: str, place: str | None) -> bool:
        """Whether it is proved that a member has died."""

    def forget(self, member: str) -> None:
        """Clean up after a member whose death is recorded."""


class Members:
    """The memberships of this process, and the look at those of others. All but `due_in` is for the writer's thread.

    Args:
        queries: What is asked.
        lease_seconds: How long a lease lasts; it is renewed each third of that.
        proof: See `Proof`; without one leases alone decide.
    """

    def __init__(self, queries: Queries, lease_seconds: float, proof: Proof | None) -> None:
        """Be no member yet."""
        self._queries = queries
        self._lease_seconds = lease_seconds
        self._proof = proof
        self._mine: dict[str, Callable[[], None]] = {}
        self._next = self._end = 0.0

    # ------------------------------------------------------------------------------------------------------- leases
    def due_in(self) -> float:
        """Return the seconds until the leases are to be renewed."""
        return self._next - time.monotonic() if self._mine else self._lease_seconds

    def __call__(self, connection: Connection) -> None:
        """Renew the leases, and tell those who turn out to be dead."""
        begun = time.monotonic()
        with transaction(connection):
            alive = [member for member in list(self._mine) if self._renew(connection, member)]
        points.reach("lease-renewal")
        for member in set(self._mine).difference(alive):
            self._bury(member)
        self._next, self._end = begun + self._lease_seconds / 3, begun + self._lease_seconds

    def missed(self, error: Exception) -> None:
        """Try again soon; when the leases have run out, tell their owners."""
        now = time.monotonic()
        self._next = now + min(1.0, self._lease_seconds / 10)
        if now > self._end and not isinstance(error, StorageFullError):  # a full ledger takes no deaths either
            _log.error("the ledger could not be reached for as long as a lease lasts", error=str(error))
            for member in list(self._mine):
                self._bury(member)

    def _renew(self, connection: Connection, member: str) -> bool:
        renewal = self._renewal
        return connection.change(renewal.sql, renewal.fill(member=member, lease=self._lease_seconds)) == 1

    @cached_property
    def _renewal(self) -> Statement:
        return self._queries.statement(
            sa.update(schema.process)
            .where(P.id == given("member"), ~P.dead)
            .values(lease_end=self._queries.now + given("lease", sa.Double))
        )

    def _bury(self, member: str) -> None:
        on_dead = self._mine.pop(member)
        if self._proof is not None:
            self._proof.end(member)
        on_dead()

    def is_mine(self, member: str) -> bool:
        """Return whether a member is one of this process, and not known to be dead."""
        return member in self._mine

    # -------------------------------------------------------------------------------------------- joining and leaving
    def join(
        self,
        connection: Connection,
        member: str,
        on_dead: Callable[[], None],
        *,
        executes: bool = True,
        job_queue: str | None = None,
    ) -> None:
        """Become a member, one that executes segments or not; who is one already stays what it is.

        Raises:
            SettingsError: See `agree`.
        """
        if member in self._mine:  # it joined, and was not told in time
            self._mine[member] = on_dead
            return
        self.agree(connection, job_queue)
        begun = time.monotonic()
        place = self._proof.begin(member) if self._proof is not None else None
        row = {
            "id": member,
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid": os.getpid(),
            "place": place,
            "started_at": time.time(),
            "lease_end": self._queries.now + self._lease_seconds,
            "dead": False,
            "executes": executes,
            "job_queue": job_queue,
        }
        with transaction(connection):
            connection.raw.execute(sa.insert(schema.process).values(**row))
        self._mine[member] = on_dead
        self._end = begun + self._lease_seconds
        self._next = (
            min(self._next, begun + self._lease_seconds / 3) if len(self._mine) > 1 else begun + self._lease_seconds / 3
        )
        try:
            self.agree(connection, job_queue)  # with those who joined at the same time, too
        except SettingsError:
            self.leave(connection, member)
            raise

    def agree(self, connection: Connection, job_queue: str | None) -> None:
        """See that all who are alive use the same event log, or do not say which; see `SharedLedger.agree`.

        Raises:
            SettingsError: Some use another one.
        """
        if job_queue is None:
            return
        others = sa.select(P.id, P.host, P.pid, P.job_queue).where(~P.dead, P.job_queue != job_queue)
        found = connection.raw.execute(others.order_by(P.started_at)).all()
        dead = self._find_dead(connection) if found else ()
        for member, host, pid, theirs in found:
            if member not in dead:
                raise SettingsError(
                    f"the event log here is {job_queue}, but process {pid} on {host} shares this ledger and uses "
                    f"{theirs}: set MILLSTREAM_JOB_QUEUE_TYPE={theirs} here too, or stop all processes that use it"
                )

    def leave(self, connection: Connection, member: str) -> None:
        """End a membership, and let others have what it still holds."""
        self._mine.pop(member, None)
        for job_id in self._held_by(connection, P.id == member):  # while it is alive: of the dead it would be a crash
            with transaction(connection):
                self._free(connection, job_id, [member], crashes=0)
        with transaction(connection):
            connection.raw.execute(sa.update(schema.process).where(P.id == member, ~P.dead).values(dead=True))
            for job_id in self._held_by(connection, P.id == member):  # what it was given meanwhile
                self._free(connection, job_id, [member], crashes=0)
            connection.raw.execute(sa.delete(schema.process).where(P.id == member))
        if self._proof is not None:
            self._proof.end(member)

    # ------------------------------------------------------------------------------------------------------ the dead
    def reap(self, connection: Connection) -> list[str]:
        """Record who has died, free what the dead hold, and return those jobs."""
        dead = self._find_dead(connection)
        if dead:
            with transaction(connection):
                connection.raw.execute(sa.update(schema.process).where(P.id.in_(dead)).values(dead=True))
        gone = [row[0] for row in connection.raw.execute(sa.select(P.id).where(P.dead))]
        if not gone:
            return []
        freed = []
        for job_id in self._held_by(connection, P.dead):
            with transaction(connection):
                if self._free(connection, job_id, gone, crashes=1):
                    freed.append(job_id)
        with transaction(connection):
            held = sa.select(S.holder).where(S.holder.is_not(None))
            connection.raw.execute(sa.delete(schema.process).where(P.id.in_(gone), P.id.not_in(held)))
        if self._proof is not None:
            for member in gone:
                self._proof.forget(member)
        return freed

    def _find_dead(self, connection: Connection) -> list[str]:
        """Return those whose lease has run out, who ran before this machine started, or whose death is proved."""
        rows = connection.raw.execute(sa.select(P.id, P.boot, P.place, P.lease_end < self._queries.now).where(~P.dead))
        dead = []
        for member, boot, place, is_over in rows:
            rebooted = self._queries.is_sqlite and boot != _boot_id()
            if is_over or rebooted or (self._proof is not None and self._proof.is_dead(member, place)):
                dead.append(member)
        return sorted(dead)

    def _held_by(self, connection: Connection, whom: sa.ColumnElement[bool]) -> list[str]:
        joined = schema.segment.join(schema.process, S.holder == P.id)
        found = connection.raw.execute(sa.select(S.job).select_from(joined).where(whom).distinct().order_by(S.job))
        return [row[0] for row in found]

    def _free(self, connection: Connection, job_id: str, holders: Sequence[str], crashes: int) -> bool:
        """Let the segments of a job that these hold be claimed again; return whether there were any."""
        if not self._queries.is_sqlite:
            self._queries.among(connection, "locked", [job_id])
            self._queries.among(connection, "locked_sides", [job_id])
        job = standing_of(self._queries.among(connection, "standing", [job_id]))[job_id]
        freed = job.free(holders)
        for number, part in job.segments.items() if freed else ():
            if part.is_moved:
                moved = sa.update(schema.segment).where(S.job == job_id, S.id == number)
                died = crashes if number in freed else 0
                connection.raw.execute(
                    moved.values(state=part.state, holder=None, ready_at=part.ready_at, crashes=S.crashes + died)
                )
        if job.is_moved:
            changed = sa.update(schema.job).where(J.id == job_id)
            connection.raw.execute(changed.values(state=job.state, reason=job.reason))
        return bool(freed)

    # --------------------------------------------------------------------------------------------------------- news
    def held(self, connection: Connection, member: str) -> list[Held]:
        """Return what others did to the jobs that a member holds."""
        rows: Sequence[Any] = connection.run(self._held.sql, self._held.fill(member=member))
        return [Held(job_id, bool(cancel), head, attempt, segment) for job_id, cancel, head, attempt, segment in rows]

    def count(self, connection: Connection) -> int:
        """Return how many are alive and execute segments."""
        ((found,),) = connection.run(self._count.sql, self._count.fill())
        return int(found)

    def present(self, connection: Connection) -> list[Presence]:
        """Return who is there; see `Presences.processes`."""
        rows: Sequence[Any] = connection.run(self._present.sql, self._present.fill())
        return [
            Presence(member, host, pid, started, lease, bool(executes), *rest)
            for member, host, pid, started, lease, executes, *rest in rows
        ]

    @cached_property
    def _present(self) -> Statement:
        mine = S.holder == P.id
        segments = sa.select(sa.func.count()).where(mine).scalar_subquery()
        jobs = sa.select(sa.func.count(sa.distinct(S.job))).where(mine).scalar_subquery()
        left = P.lease_end - self._queries.now
        found = sa.select(P.id, P.host, P.pid, P.started_at, left, P.executes, segments, jobs, P.job_queue)
        return self._queries.statement(found.where(~P.dead).order_by(P.started_at, P.id))

    @cached_property
    def _count(self) -> Statement:
        alive = (~P.dead, P.executes, P.lease_end >= self._queries.now)
        return self._queries.statement(sa.select(sa.func.count()).select_from(schema.process).where(*alive))

    @cached_property
    def _held(self) -> Statement:
        joined = schema.segment.join(schema.job, J.id == S.job)
        return self._queries.statement(
            sa.select(J.id, J.cancel_requested, J.next_seq - 1, S.attempt, S.id)
            .select_from(joined)
            .where(S.holder == given("member"))
            .order_by(J.id, S.id)
        )


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux: a lease alone decides
        return ""


def on_loop(loop: asyncio.AbstractEventLoop, on_dead: Callable[[], None]) -> Callable[[], None]:
    """Return what calls `on_dead` on a loop, from any thread."""

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(on_dead)
        except RuntimeError:  # the loop is closed, and what ran on it has ended
            return

    return tell
