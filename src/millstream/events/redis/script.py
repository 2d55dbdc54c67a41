"""The append script as a typed call: events of many jobs in one command, which numbers the volatile ones."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from redis.exceptions import NoScriptError, RedisError

from millstream.clock import new_id
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link
from millstream.log import get_logger
from millstream.model.event import TERMINAL, Cursor, Draft
from millstream.model.value import encode

_log = get_logger("millstream.events")

MOST_KEPT: Final = 100_000
"""Events that a stream keeps, about; the older ones of a longer job come from the ledger."""

_SOURCE: Final = Path(__file__).with_name("append.lua").read_bytes()
_DIGEST: Final = hashlib.sha1(_SOURCE, usedforsecurity=False).hexdigest()
_pack: Final = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Entry:
    """Events of one job that are appended together.

    Attributes:
        job_id: Whose.
        first: Number of the first durable one, or that the next one would have.
        number: Of this entry among all of its emitter; what was appended once under it is not appended again.
        attempt: The attempt of the segment that they come from.
        segment: Which segment of the job that is.
        is_refill: Whether they come from the ledger, since something was lost: the volatile events that follow get
            higher numbers than any before had.
        is_for_known: Whether they are appended only where Redis knows the job.
        drafts: The events.
        payloads: The same, encoded.
        size: Bytes of all.
        next: The number of the first durable event behind it.
    """

    job_id: str
    first: int
    number: int
    attempt: int = 1
    segment: int = 1
    is_refill: bool = False
    is_for_known: bool = False
    drafts: list[Draft] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    size: int = 0
    next: int = 0

    def __post_init__(self) -> None:
        """Begin empty."""
        self.next = self.first

    def add(self, draft: Draft) -> None:
        """Take one more event.

        Raises:
            NotSerializableError: It cannot be written down.
        """
        payload = encode(list(draft[1:]), f"event {draft[1]}")
        self.drafts.append(draft)
        self.payloads.append(payload)
        self.size += len(payload)
        self.next += draft[0]

    @property
    def kinds(self) -> str:
        """What each event is, as the script takes it: `v` volatile, `d` durable, `$` the last one."""
        return "".join("v" if not draft[0] else "$" if draft[1] == TERMINAL else "d" for draft in self.drafts)


class Reply(NamedTuple):
    """What became of an entry.

    Attributes:
        before: Where the log stood before it.
        after: Where it stands now.
        is_over: Whether nothing is taken any more.
        cursors: Where each event stands, if that was asked; `None` for one that was not taken.
    """

    before: Cursor
    after: Cursor
    is_over: bool
    cursors: Sequence[Cursor | None]


class AppendScript:
    """Appends entries to Redis.

    Args:
        link: Where it is.
        keys: The names there.
        ttl_seconds: How long the keys of an ended job are kept.

    Attributes:
        emitter: Id under which this process appends.
    """

    def __init__(self, link: Link, keys: Keys, ttl_seconds: int) -> None:
        """Append nothing yet."""
        self._link, self._keys, self._ttl = link, keys, ttl_seconds
        self.emitter = new_id()

    async def append(self, entries: Sequence[tuple[Entry, Cursor, bool]]) -> list[Reply]:
        """Append entries, and wake all processes for their jobs.

        Args:
            entries: Each with the last cursor of its job that is known here, and whether its events' cursors are
                wanted.

        Raises:
            RedisUnavailableError: Redis is away, or takes nothing.
        """
        keys = self._keys
        names: list[str] = []
        told: list[str | bytes | int] = []
        for entry, seen, is_wanted in entries:
            names += keys.of_job(entry.job_id)
            told.append(_header(entry, seen, is_wanted=is_wanted))
            told += entry.payloads
        jobs = " ".join(dict.fromkeys(entry.job_id for entry, _, _ in entries))
        fixed = (self.emitter, keys.wake, f"{self.emitter} {jobs}" if jobs else "", MOST_KEPT, self._ttl)
        arguments = (len(names), *names, *fixed, *told)
        answer = await self._run(arguments)
        if isinstance(answer, RedisError) and "WRONGTYPE" in str(answer):
            await self._clear(names)
            answer = await self._run(arguments)
        if isinstance(answer, RedisError):
            raise self._link.lost(answer) from answer
        return [_reply(raw) for raw in answer]

    async def _run(self, arguments: Sequence[str | bytes | int]) -> Any:
        (answer,) = await self._link.appends.attempt([("EVALSHA", _DIGEST, *arguments)])
        if isinstance(answer, NoScriptError):
            (answer,) = await self._link.appends.attempt([("EVAL", _SOURCE, *arguments)])
        return answer

    async def _clear(self, names: Sequence[str]) -> None:
        """Remove what somebody else has put in the place of keys of ours: one job's must not hold up all others'."""
        kinds = await self._link.appends.pipeline([("TYPE", name) for name in names])
        ours = (b"stream", b"hash", b"hash") * (len(names) // 3)
        foreign = [name for name, kind, our in zip(names, kinds, ours, strict=True) if kind not in (our, b"none")]
        _log.error("keys in Redis were of another type; they are removed, and made again", keys=foreign)
        if foreign:
            await self._link.appends.call("UNLINK", *foreign)

    async def forget(self, job_ids: Collection[str]) -> None:
        """Drop the keys of jobs.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        names = [name for job_id in job_ids for name in self._keys.of_job(job_id)]
        await self._link.appends.call("UNLINK", *names)


def _header(entry: Entry, seen: Cursor, *, is_wanted: bool) -> bytes:
    flags = (entry.is_refill, entry.is_for_known, is_wanted)
    return _pack((entry.first, entry.segment, entry.attempt, entry.number, *seen, *flags, entry.kinds))


def _reply(raw: Sequence[int | bytes]) -> Reply:
    seq, k, head, tail, is_over, *ids = raw
    cursors = [Cursor.parse(at.decode()) if isinstance(at, bytes) and at else None for at in ids]
    return Reply(Cursor(int(seq), int(k)), Cursor(int(head), int(tail)), bool(is_over), cursors)
