"""The roll of a ledger's processes in Redis: what each tells of itself, for as long as it goes on telling it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.log import get_logger

_log = get_logger("millstream.events")

_KEPT_SECONDS: Final = 10


class Roll:
    """What processes tell of themselves.

    Args:
        link: Where Redis is.
        keys: The names there.

    Attributes:
        renew_seconds: How often a process has to tell of itself.
    """

    renew_seconds: Final = 2.0

    def __init__(self, link: Link, keys: Keys) -> None:
        """Take the parts."""
        self._link, self._keys = link, keys

    async def tell(self, process: str, told: Mapping[str, Any]) -> None:
        """Tell of a process, for the next ten seconds.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        key, names = self._keys.process(process), self._keys.processes
        entry: list[str | bytes | float] = ["SET", key, msgspec.json.encode(told), "EX", _KEPT_SECONDS]
        await self._link.commands.pipeline([entry, ["SADD", names, process], ["EXPIRE", names, 2 * _KEPT_SECONDS]])

    async def keep_telling(self, process: str, told: Mapping[str, Any]) -> None:
        """Tell of a process, unless Redis is away: then it is told with the next time."""
        try:
            await self.tell(process, told)
        except RedisUnavailableError as error:
            _log.debug("nobody can be told of this process", why=str(error))

    async def told(self) -> list[dict[str, Any]]:
        """Return what the processes that live tell, and forget the others.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        names = sorted(name.decode() for name in await self._link.commands.call("SMEMBERS", self._keys.processes))
        if not names:
            return []
        entries = await self._link.commands.call("MGET", *map(self._keys.process, names))
        gone = [name for name, entry in zip(names, entries, strict=True) if entry is None]
        if gone:
            await self._link.commands.call("SREM", self._keys.processes, *gone)
        return [entry for entry in map(_read, entries) if entry is not None]

    async def leave(self, process: str) -> None:
        """Tell nothing of a process any more.

        Raises:
            RedisUnavailableError: Redis is away.
        """
        await self._link.commands.pipeline(
            [["DEL", self._keys.process(process)], ["SREM", self._keys.processes, process]]
        )


def _read(entry: bytes | None) -> dict[str, Any] | None:
    """Return what a process tells of itself; `None` where there is nothing, or where it is no such thing."""
    try:
        told = None if entry is None else msgspec.json.decode(entry, type=dict[str, Any])
    except msgspec.DecodeError as error:
        _log.warning("what a process tells of itself cannot be read", why=str(error))
        return None
    return told if told and "id" in told else None
