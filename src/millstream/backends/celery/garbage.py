"""What is no message at all, in a worker's queue: Celery ends by it, and so it is set aside before Celery sees it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from celery import bootsteps
from kombu.exceptions import ContentDisallowed, DecodeError

from millstream.backends.celery.messages import DEAD_LETTERS
from millstream.backends.celery.queues import dead_letters
from millstream.backends.celery.strategy import bury
from millstream.log import get_logger

_log = get_logger("millstream.backends.celery")

_UNREADABLE: Final = (
    TypeError,
    KeyError,
    ValueError,
    AttributeError,
    RecursionError,
    DecodeError,
    ContentDisallowed,
)
"""What Celery raises where a message has another form than it believes."""


class Sieve(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of Celery's consumer: keeps from it what would end it. It begins anew with every connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def create(self, parent: Any) -> None:
        """Stand between the consumer and what takes its messages."""
        make = parent.create_task_handler

        def create_task_handler(*args: Any, **options: Any) -> Callable[[Any], None]:
            return _sieved(make(*args, **options), parent)

        parent.create_task_handler = create_task_handler

    def start(self, parent: Any) -> None:
        """Stand between kombu and the lists of a Redis server, which hold whatever was put there."""
        channel, driver = parent.task_consumer.channel, parent.connection.transport.driver_type
        if driver == "redis":
            channel.client.parse_response = _only_messages(channel, channel.client.parse_response)
        elif driver == "amqp":
            _make_dead_letters(parent.connection)


def _make_dead_letters(connection: Any) -> None:
    """See that RabbitMQ has where to put what is rejected: it drops it otherwise."""
    try:
        with connection.channel() as channel:
            dead_letters(is_amqp=True)(channel).queue_declare()
    except connection.channel_errors as error:
        _log.warning(
            "refused messages are lost: their queue is not as it should be", queue=DEAD_LETTERS, why=str(error)
        )


def _sieved(handle: Callable[[Any], None], consumer: Any) -> Callable[[Any], None]:
    """Return what takes a consumer's messages, and refuses those that Celery cannot make anything of."""

    def on_message(message: Any) -> None:
        try:
            handle(message)
        except _UNREADABLE as error:
            _log.error("a message was refused", why=f"it is none of Celery's: {error!r}"[:500])
            if not message.acknowledged:
                bury(message, consumer, error)

    return on_message


def _only_messages(channel: Any, parse_response: Callable[..., Any]) -> Callable[..., Any]:
    """Return what reads the answers of a Redis client, and takes out of them what is no message.

    Args:
        channel: Kombu's channel, which has the client.
        parse_response: The client's own.
    """

    def parse(connection: Any, command: str, **options: Any) -> Any:
        answer = parse_response(connection, command, **options)
        if command != "BRPOP" or not answer or _is_message(answer[1]):
            return answer
        _log.error("what is no message was set aside", entry=f"{answer[1]!r:.100}", in_queue=DEAD_LETTERS)
        with channel.conn_or_acquire() as client:
            client.lpush(DEAD_LETTERS, answer[1])
        return None

    return parse


def _is_message(entry: bytes | str) -> bool:
    """Whether an entry of a list is what kombu puts there."""
    try:
        match json.loads(entry):
            case {
                "properties": {
                    "delivery_tag": str() | int(),
                    "delivery_info": {"exchange": str() | None, "routing_key": str()},
                } as properties,
                **rest,
            }:
                pass
            case _:
                return False
        if properties.get("body_encoding") == "base64":
            base64.b64decode(str(rest.get("body") or ""))
        elif properties.get("body_encoding") is not None:
            return False
    except (ValueError, TypeError, RecursionError):
        return False
    return isinstance(rest.get("headers") or {}, dict)
