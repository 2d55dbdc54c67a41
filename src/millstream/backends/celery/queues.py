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


def refusal(name: str, error: Exception) -> str | None:
    """Return in a line why a broker refuses a queue, and what to do; `None` where the error is not about that queue.

    Args:
        name: The name of the queue that was declared.
        error: What was raised.

    Example:
        >>> from amqp.exceptions import PreconditionFailed
        >>> print(refusal("celery", PreconditionFailed("inequivalent arg 'x-queue-type' …", (50, 10))))
        RabbitMQ has a queue 'celery' of another kind (inequivalent arg 'x-queue-type' …): delete it when its messages \
are worked off (rabbitmqctl delete_queue celery), or use a queue of another name
        >>> refusal("celery", ConnectionResetError("reset")) is None
        True
    """
    amqp: Any = import_module("amqp.exceptions")  # as kombu
    text = str(getattr(error, "reply_text", None) or error).split("\n", 1)[0]
    if isinstance(error, amqp.PreconditionFailed):
        return (
            f"RabbitMQ has a queue {name!r} of another kind ({text}): delete it when its messages are worked off "
            f"(rabbitmqctl delete_queue {name}), or use a queue of another name"
        )
    if isinstance(error, amqp.ChannelError):
        return f"RabbitMQ refuses the queue {name!r}: {text}"
    if "WRONGTYPE " in text:
        return f"the broker has a key {name!r} that is no queue: delete it (DEL {name}), or use a queue of another name"
    return None


def _queue(name: str, is_amqp: bool, arguments: dict[str, Any]) -> Any:  # noqa: FBT001  private
    kombu: Any = import_module("kombu")  # only who speaks to a broker pays for it; it has no types
    return kombu.Queue(
        name, routing_key=name, queue_arguments={"x-queue-type": "quorum", **arguments} if is_amqp else None
    )
