"""Finds the jobs whose end Redis was never told, since who recorded it died: their keys would stay there for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection
from typing import Final

from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.events.redis.outgoing import Outgoing
from millstream.log import get_logger
from millstream.portal import end

_log = get_logger("millstream.events")

SHORTEST_SECONDS: Final = 10.0
"""How much time lies between two looks at least."""

ON_THE_WAY_SECONDS: Final = 2.0
"""How long an event may be on its way to Redis: what is there in the ledger alone for longer counts as lost."""

_PAGE: Final = 200


class Sweep:
    """Looks through the keys of jobs now and then; of all processes, one at a time.

    A key gets its TTL with the last event. Where a process dies between the record of that and its way to Redis, and
    nobody reads the job, nobody else would bring it.

    Args:
        link: Where Redis is.
        keys: The names there.
        outgoing: Appends what is missing.
        ttl_seconds: How long the keys of an ended job are kept: a look each half of that finds others in that time.
    """

    def __init__(self, link: Link, keys: Keys, outgoing: Outgoing, ttl_seconds: float) -> None:
        """Look at nothing yet."""
        self._link, self._keys, self._outgoing = link, keys, outgoing
        self._seconds = max(SHORTEST_SECONDS, ttl_seconds / 2)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="millstream redis sweep")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        await end(task)

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(self._seconds * random.uniform(0.75, 1.25))  # noqa: S311  so that they take turns
            try:
                if await self._is_mine():
                    await self.look()
            except RedisUnavailableError as error:
                _log.debug("the keys in Redis could not be looked through", why=str(error))
            except Exception as error:  # noqa: BLE001  whatever it is, it is looked again
                _log.error("the keys in Redis could not be looked through", exc_info=error)

    async def _is_mine(self) -> bool:
        """Whether it is this process that looks this time."""
        taken = await self._link.commands.call("SET", self._keys.sweep, 1, "NX", "PX", round(500 * self._seconds))
        return taken is not None

    async def look(self) -> None:
        """Append what only the ledger has of jobs that Redis knows.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        open_: dict[str, int] = {}
        at: str | bytes = "0"
        while at != b"0":
            at, names = await self._link.commands.call("SCAN", at, "MATCH", self._keys.states, "COUNT", _PAGE)
            open_ |= await self._open([self._keys.job_of(name.decode()) for name in names])
        await asyncio.sleep(ON_THE_WAY_SECONDS)
        jobs = list(open_)
        for start in range(0, len(jobs), _PAGE):
            still = await self._open(jobs[start : start + _PAGE])
            self._outgoing.mend(job_id for job_id, head in still.items() if head == open_[job_id])

    async def _open(self, jobs: Collection[str]) -> dict[str, int]:
        """Return those of some jobs that have not ended as far as Redis knows, each with its last event there."""
        states = [self._keys.state(job_id) for job_id in jobs]
        asked = [command for state in states for command in (("TTL", state), ("HGET", state, "head"))]
        told = await self._link.commands.pipeline(asked) if asked else []
        return {
            job_id: int(head)
            for job_id, ttl, head in zip(jobs, told[::2], told[1::2], strict=True)
            if ttl == -1 and head is not None
        }
