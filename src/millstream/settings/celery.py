"""The settings of work on Celery workers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.util import find_spec
from typing import Final

from pydantic import SecretStr

from millstream.errors import SettingsError
from millstream.settings.kinds import Brokers, Count, Key, QueueName, brokers, each_broker
from millstream.settings.langflow import LangflowSettings

_NO_BROKER = "needs a broker; set broker_url or redis_url, as in redis://localhost:6379/0"

_OF_RABBITMQ: Final = ("amqp",)
_OF_REDIS: Final = ("redis", "packaging")
"""What Kombu imports to speak to such a broker: without it no message ever gets out."""


class CelerySettings(LangflowSettings):
    """The settings of work on Celery workers; `celery_enabled` and `redis_url` are Langflow's."""

    broker_url: Brokers | None = None  # None: redis_url
    result_backend: str | None = None  # of users' own Celery tasks; ours need none. None: Redis, if there is one
    default_queue: QueueName = "celery"
    message_key: Key | None = None  # None: the ledger's own
    outbox_limit: Count = 10_000

    worker_concurrency: Count | None = None  # None: as many as there are CPUs
    worker_prefetch_multiplier: Count = 1
    worker_max_tasks_per_child: Count | None = None
    worker_max_memory_per_child: Count | None = None  # KiB, as in Celery

    @property
    def effective_broker_url(self) -> str:
        """The broker's URL, or several separated by semicolons: `broker_url`, else `redis_url`.

        Raises:
            SettingsError: Neither is set.

        Example:
            >>> CelerySettings(redis_url="redis://localhost:6379/0").effective_broker_url
            'redis://localhost:6379/0'
        """
        broker = self.broker_url or self.redis_url
        if broker is None:
            raise SettingsError(f"celery_enabled = true: {_NO_BROKER}")
        return ";".join(each_broker(broker))

    @property
    def effective_result_backend(self) -> str | None:
        """Where results of users' own Celery tasks are: `result_backend`, else the Redis of `redis_url` or the broker.

        None where neither is one Redis server: such tasks run, and nobody can tell how they stand.

        Example:
            >>> CelerySettings(broker_url="redis://localhost:6379/0").effective_result_backend
            'redis://localhost:6379/0'
        """
        url = self.redis_url or self.broker_url or ""
        if self.result_backend or not url.startswith(("redis://", "rediss://")) or ";" in url or "," in url:
            return self.result_backend
        if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:  # Celery refuses a result backend without
            url += f"{'&' if '?' in url else '?'}ssl_cert_reqs=required"
        return url

    @property
    def message_secret(self) -> bytes | None:
        """What messages are signed with where it is set, else `None`: then it is the ledger's own key."""
        key: SecretStr | None = self.message_key
        return None if key is None else key.get_secret_value().encode()

    def _of_broker(self) -> Iterator[str]:
        """Yield the modules without which the brokers cannot be spoken to."""
        for url in each_broker(self.broker_url or self.redis_url or ""):
            yield from _OF_RABBITMQ if "amqp" in url.partition("://")[0] else _OF_REDIS

    def _celery_problems(self, refused: Collection[str], *, is_durable: bool) -> Iterator[tuple[str, str]]:
        """Yield what keeps jobs from running on workers: the name of a setting, and what is wrong with it."""
        if not self.celery_enabled:
            return
        if self.broker_url is None and self.redis_url is None and not {"broker_url", "redis_url"}.intersection(refused):
            yield "celery_enabled", _NO_BROKER
        if self.redis_url is not None:
            try:
                brokers(self.redis_url)
            except ValueError as error:
                yield "redis_url", str(error)
        missing = {name: None for name in ("celery", *self._of_broker()) if find_spec(name) is None}
        if missing:
            yield "celery_enabled", f'needs {" and ".join(missing)}; install it with pip install "millstream[celery]"'
        if not is_durable:
            yield "durability", "such jobs end with their process and reach no worker; with celery_enabled give full"
