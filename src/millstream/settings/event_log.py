"""The settings of the event log that several processes share; they are Langflow's."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final, Literal
from urllib.parse import urlsplit

from millstream.settings.celery import CelerySettings
from millstream.settings.kinds import brokers, each_broker, redis_server
from millstream.urls import is_loopback

_PORT: Final = 6379


class EventLogSettings(CelerySettings):
    """Which event log there is, and where."""

    @property
    def effective_job_queue_type(self) -> Literal["asyncio", "redis"]:
        """The event log in use: `job_queue_type`; else `redis` where workers are used and a Redis server is named.

        `broker_url` names a broker only; that it is a Redis server does not make one of the event log.

        Example:
            >>> EventLogSettings(celery_enabled=True, redis_url="redis://localhost").effective_job_queue_type
            'redis'
        """
        if self.job_queue_type is not None:
            return self.job_queue_type
        is_named = self.redis_url or self.redis_queue_url or self.redis_queue_host
        return "redis" if self.celery_enabled and is_named else "asyncio"

    @property
    def effective_redis_queue_url(self) -> str:
        """Where the Redis server of the event log is, whether or not it is in use.

        `redis_queue_url`, else `redis_queue_host` and `redis_queue_port`, else the server of `redis_url`, else
        `redis_host` and `redis_port`; the database is `redis_queue_db` unless the first names one.

        Example:
            >>> EventLogSettings(redis_url="redis://:secret@localhost/0").effective_redis_queue_url
            'redis://:secret@localhost/1'
        """
        if self.redis_queue_url is not None:
            return self.redis_queue_url
        if self.redis_url is not None and self.redis_queue_host is None and self.redis_queue_port is None:
            return urlsplit(self.redis_url)._replace(path=f"/{self.redis_queue_db}").geturl()
        host, port = self.redis_queue_host or self.redis_host, self.redis_queue_port or self.redis_port
        return f"redis://{f'[{host}]' if ':' in host else host}:{port}/{self.redis_queue_db}"

    @property
    def shares_database_with_broker(self) -> bool:
        """Whether the event log's database is the broker's too; names of keys keep them apart.

        Example:
            >>> EventLogSettings(celery_enabled=True, redis_url="redis://r/1").shares_database_with_broker
            True
        """
        broker = self.broker_url or self.redis_url
        if not (self.celery_enabled and broker):
            return False
        queue = _place(self.effective_redis_queue_url)
        return any(_place(url) == queue for url in each_broker(broker) if url.startswith(("redis://", "rediss://")))

    def _event_log_problems(self) -> Iterator[tuple[str, str]]:
        """Yield what keeps processes from sharing an event log: the name of a setting, and what is wrong with it."""
        if self.effective_job_queue_type != "redis":
            return
        blamed = "job_queue_type" if self.job_queue_type else "celery_enabled"
        if find_spec("redis") is None:
            yield blamed, 'needs redis; install it with pip install "millstream[redis]"'
        source = self._queue_source()
        if source == "redis_url" and (problem := self._wrong_redis_url(self.redis_url or "")):
            yield source, problem
            return
        by_hand = self.model_fields_set.intersection({"redis_queue_url", "redis_queue_db", "redis_queue_host"})
        if by_hand and self.shares_database_with_broker:
            yield (
                "redis_queue_url" if self.redis_queue_url else "redis_queue_db",
                "the broker is in that database; give the event log one of its own, as in redis://HOST:PORT/1",
            )

    def _queue_source(self) -> str:
        """Return the setting that the server of the event log comes from."""
        if self.redis_queue_url is not None:
            return "redis_queue_url"
        by_parts = self.redis_queue_host is not None or self.redis_queue_port is not None
        return "redis_url" if self.redis_url is not None and not by_parts else "redis_queue_host"

    def _wrong_redis_url(self, url: str) -> str | None:
        """Return what is wrong with the URL that the event log's is made of, where it is not wrong as a broker's."""
        try:
            if self.celery_enabled:
                brokers(url)
        except ValueError:
            return None
        try:
            redis_server(url)
        except ValueError as error:
            return f"{error}; or set redis_queue_url"
        return None


def _place(url: str) -> tuple[str, int, int]:
    """Return host, port and database of a Redis URL."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    number = parts.path.strip("/")
    return "localhost" if is_loopback(host) else host, parts.port or _PORT, int(number or 0)
