"""What a worker of Celery's is told as it starts; nothing of Celery is imported for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options of a worker.

    Attributes:
        pool: `async` or `prefork`.
        concurrency: Its pool processes, or tasks at once; `None`: by the app's settings.
        queues: The queues that it serves; none: the default one.
        log_level: From which level on it logs: `debug`, `info`, `warning` or `error`.
        hostname: Its name, in which `%h`, `%n` and `%d` stand for the machine's name, the part before its first dot and
            the rest; `None`: one that is its own. Of two with one name RabbitMQ refuses the second.
        task_events: Whether it sends events, which monitors such as Flower listen to.
    """

    pool: str
    concurrency: int | None
    queues: Sequence[str]
    log_level: str
    hostname: str | None
    task_events: bool
