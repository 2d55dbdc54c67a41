"""What a worker does with a message before anything runs: it is checked, and refused where nobody of ours signed it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from celery import signals
from celery.worker import state
from celery.worker.strategy import default, logger

from millstream.backends.celery.messages import Envelope, ForeignError, ForgedError, Signer, as_celery_reads
from millstream.backends.celery.queues import dead_letters
from millstream.ledger.queued import Queued
from millstream.log import get_logger
from millstream.model.names import DOCUMENTS

_log = get_logger("millstream.backends.celery")

EX_CONFIG: Final = 78
"""The exit code of a worker that was given another ledger than those whose messages it gets."""

_DOUBTS: Final = 3
"""How many messages of other ledgers a worker must get, and none of its own, to take its settings for wrong."""

_LEDGERS: Final = 100
"""Of how many other ledgers a worker remembers that it has named them in its log."""


class Guard:
    """Judges all messages that one worker gets: what is let in, what is refused, and when its settings must be wrong.

    Messages end a worker only on honest evidence, for whoever can write to a queue could end all workers otherwise.
    With a common key that is one signed message of another ledger. Without one nobody can check the signatures of
    other ledgers: then it is that nothing but such messages comes.

    Args:
        signer: Tells what was signed.
        flows: The names of the flows and tasks that this worker executes.
    """

    def __init__(self, signer: Signer, flows: Callable[[], Collection[str]]) -> None:
        """Have seen nothing yet."""
        self._signer = signer
        self._flows = flows
        self._has_own = False
        self._refused = 0
        self._foreign = 0
        self._ledgers: set[str] = set()
        self._known: set[str] = {DOCUMENTS}  # every worker runs them
        self._unknown: set[str] = set()

    def admit(self, message: Any) -> Queued:
        """Return the segment that a message tells of.

        Args:
            message: Kombu's message.

        Raises:
            ForgedError: Nobody of this ledger signed it.
            ForeignError: It names another ledger.
        """
        try:
            payload = message.payload
        except Exception as error:  # whatever it holds: no worker ends by it
            raise ForgedError(f"it cannot be read: {error!r:.200}") from error
        queued = self._signer.check(message.headers, payload)
        self._has_own = True
        self._note_flow(queued.flow)
        return queued

    def is_misplaced(self, error: ForeignError) -> bool:
        """Whether this worker must have been started with the wrong settings, by a message of another ledger."""
        self._foreign += 1
        return error.is_signed or (not self._has_own and self._foreign >= _DOUBTS)

    def note_refusal(self, error: ForgedError | ForeignError, message: Any) -> None:
        """Log that a message is refused; of those of one other ledger only the first."""
        self._refused += 1
        if isinstance(error, ForeignError):
            if error.ledger in self._ledgers or len(self._ledgers) >= _LEDGERS:
                return
            self._ledgers.add(error.ledger)
        why, name = f"{error}"[:500], f"{message.headers.get('id')}"[:100]
        _log.error("a message was refused", why=why, message=name, so_far=self._refused)

    def _note_flow(self, flow: str) -> None:
        if flow in self._known or flow in self._unknown:
            return
        self._known.update(self._flows())
        if flow in self._known:
            return
        self._unknown.add(flow)
        _log.warning(
            "a job waits for code that this worker does not know; name its module with -A or the setting imports "
            "(MILLSTREAM_IMPORTS)",
            flow=flow,
        )


def checked(task: Any, app: Any, consumer: Any) -> Callable[..., Any]:
    """Return what takes messages for the task of ours: a strategy of Celery's.

    Celery gets nothing of a message as it came, for only its arguments are signed: a time limit in its headers would
    have the pool kill whatever runs.

    Args:
        task: The task.
        app: The Celery app, with a `seat`.
        consumer: Celery's consumer.
    """
    handle = default(task, app, consumer, info=logger.debug)  # what a message is about is told when it has ended
    guard: Guard = app.seat.guard

    def take(message: Any, _body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        try:
            envelope = as_celery_reads(guard.admit(message))
        except (ForeignError, ForgedError) as error:
            if isinstance(error, ForeignError) and guard.is_misplaced(error):
                message.requeue()
                _stop(error)
            else:
                guard.note_refusal(error, message)
                bury(message, consumer, error)
            return None
        return handle(_Checked(envelope), None, ack, reject, callbacks, **options)

    return take


class _Checked:
    """A message as Celery reads it, made of what was checked."""

    content_type = "application/json"
    content_encoding = "utf-8"

    def __init__(self, envelope: Envelope) -> None:
        self.headers = envelope.headers
        self.body = envelope.body
        self.payload = envelope.payload
        self.properties: dict[str, Any] = {}
        self.delivery_info: dict[str, Any] = {}


def _stop(error: ForeignError) -> None:
    if state.should_stop is None:
        _log.error(
            "a message of another ledger; this worker stops: set database_url to the jobs' ledger, or use another "
            "database of the broker",
            why=str(error),
            exit_code=EX_CONFIG,
        )
        state.should_stop = EX_CONFIG


def bury(message: Any, consumer: Any, error: Exception) -> None:
    """Put a message into the queue of dead letters; RabbitMQ does so with what is rejected.

    Args:
        message: Kombu's message.
        consumer: Celery's consumer.
        error: Why.
    """
    signals.task_rejected.send(sender=consumer, message=message, exc=error)
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
