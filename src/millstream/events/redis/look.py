"""A look at a Redis server, for people who ask whether it will do; nothing of ours lives on it meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from redis.retry import Retry

from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Bounds, RedisUnavailableError
from millstream.urls import without_password

OLDEST: Final = 6
"""The first version that has what the event log asks for; Valkey says that it is 7.2."""

_NO_DATABASE: Final = "DB index is out of range"


@dataclass(frozen=True, slots=True)
class Looked:
    """How a Redis server is.

    Attributes:
        name: What it is, with its version.
        version: The version of Redis that it is, or is compatible with.
        milliseconds: How long one answer took.
        eviction: Its `maxmemory-policy`.
        is_bounded: Whether it has a `maxmemory`: only then is anything evicted.
        is_cluster: Whether it is part of a Redis Cluster.

    Example:
        >>> Looked("Redis 5.0.7", "5.0.7", 0.2, "noeviction", False, False).is_too_old
        True
    """

    name: str
    version: str
    milliseconds: float
    eviction: str
    is_bounded: bool
    is_cluster: bool

    @property
    def is_too_old(self) -> bool:
        """Whether the event log needs a newer one."""
        return int(self.version.partition(".")[0]) < OLDEST

    @property
    def loses_live_events(self) -> bool:
        """Whether it makes room by removing what is still in use."""
        return self.is_bounded and self.eviction.startswith("allkeys")


def look(url: str, bounds: Bounds | None = None) -> Looked:
    """Write to a Redis server and read from it, and return how it is; what was written is gone after a second.

    Args:
        url: Names it, with user, password and database.
        bounds: How long it is waited for.

    Raises:
        RedisUnavailableError: It does not answer, or refuses what it is asked.
    """
    try:
        with _client(url, bounds or Bounds()) as client:
            told = client.info()
            began = time.perf_counter()
            client.set(Keys("doctor").probe, 1, ex=1)
            took = (time.perf_counter() - began) * 1000
    except (RedisError, OSError) as error:
        raise RedisUnavailableError(f"Redis at {without_password(url)} cannot be used: {error}") from error
    name = "Valkey" if told.get("server_name") == "valkey" else "Redis"
    return Looked(
        name=f"{name} {told.get(f'{name.lower()}_version', told['redis_version'])}",
        version=told["redis_version"],
        milliseconds=round(took, 1),
        eviction=told.get("maxmemory_policy", "noeviction"),
        is_bounded=bool(told.get("maxmemory")),
        is_cluster=bool(told.get("cluster_enabled")),
    )


def refusal(url: str, bounds: Bounds | None = None) -> str | None:
    """Return why a Redis server has nobody who comes by a URL, which is wrong; `None` where it does, or is away.

    Args:
        url: As for `look`.
        bounds: How long it is waited for.
    """
    try:
        with _client(url, bounds or Bounds()) as client:
            client.set(Keys("doctor").probe, 1, ex=1)
    except (AuthenticationError, NoPermissionError) as error:
        return str(error)
    except ResponseError as error:
        return str(error) if _NO_DATABASE in str(error) else None
    except (RedisError, OSError):
        return None
    return None


def _client(url: str, bounds: Bounds) -> Any:
    return Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=bounds.connect,
        socket_timeout=bounds.command,
        decode_responses=True,
    )
