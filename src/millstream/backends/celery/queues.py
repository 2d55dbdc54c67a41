"""The broker's queues, as senders and workers alike declare them: a queue that is declared in two ways is refused."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from millstream.backends.celery.messages import DEAD_LETTERS

_KEPT: Final = 10_000
"""How many refused messages RabbitMQ keeps."""


def task_queue(name: str, *, is_amqp: bool) -> Any:
    """Return the queue of a name; on RabbitMQ a quorum queue, which passes on to `dead_letters` what is refused.

    Args:
        name: Its name.
        is_amqp: Whether the broker is RabbitMQ.
    """
    return _queue(name, is_amqp, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD_LETTERS})


def dead_letters(*, is_amqp: bool) -> Any:
    """Return the queue of refused messages."""
    return _queue(DEAD_LETTERS, is_amqp, {"x-max-length": _KEPT})


def _queue(name: str, is_amqp: bool, arguments: dict[str, Any]) -> Any:  # noqa: FBT001  private
    kombu: Any = import_module("kombu")  # only who speaks to a broker pays for it; it has no types
    return kombu.Queue(
        name, routing_key=name, queue_arguments={"x-queue-type": "quorum", **arguments} if is_amqp else None
    )
