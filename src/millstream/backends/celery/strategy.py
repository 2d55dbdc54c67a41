"""What a worker does with a message before anything runs: it is checked, and refused where nobody of ours signed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
from celery import signals
from celery.worker import state
from celery.worker.strategy import default
from kombu.exceptions import KombuError

from millstream.backends.celery.messages import ForeignError, ForgedError
from millstream.backends.celery.queues import dead_letters

_log = structlog.get_logger("millstream.backends.celery")

EX_CONFIG: Final = 78
"""The exit code of a worker that was given another ledger than those whose messages it gets."""


def checked(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return what takes messages for the task of ours: a strategy of Celery's.

    A message that nobody signed goes to the queue of dead letters. One of another ledger goes back, and the worker
    stops: it was started with the wrong settings, or its peers were.

    Args:
        task: The task.
        app: The Celery app, with a `seat`.
        consumer: Celery's consumer.
    """
    handle = default(task, app, consumer)
    refused = 0

    def take(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        nonlocal refused
        try:
            app.seat.signer.check(message.headers, message.payload)
        except ForeignError as error:
            message.requeue()
            if state.should_stop is None:
                _log.error("a message of another ledger; this worker stops", why=str(error), exit_code=EX_CONFIG)
                state.should_stop = EX_CONFIG
            return None
        except (ForgedError, KombuError, ValueError, UnicodeError) as error:
            refused += 1
            _log.error("a message was refused", why=str(error), message=str(message.headers.get("id")), so_far=refused)
            signals.task_rejected.send(sender=consumer, message=message, exc=error)
            _bury(message, consumer)
            return None
        return handle(message, body, ack, reject, callbacks, **options)

    return take


def _bury(message: Any, consumer: Any) -> None:
    """Put a message into the queue of dead letters; RabbitMQ does so with what is rejected."""
    if consumer.connection.transport.driver_type == "amqp":
        message.reject()
        return
    with consumer.connection.Producer() as producer:
        producer.publish(
            message.body,
            exchange="",
            routing_key=dead_letters(is_amqp=False).name,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=message.headers,
            retry=False,
        )
    message.ack()
