"""A connection to the broker on which no wait is long: for senders, and for a look at its queues."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from millstream.backends.celery.messages import DEAD_LETTERS, Signer
from millstream.backends.celery.queues import dead_letters, refusal, task_queue
from millstream.ledger.queued import Queued

_SECONDS: Final = 2.0
"""How long one answer of the broker is waited for."""


class Link:
    """One connection to the broker, made by `open`, which has to be called before each use: `drop` ends it.

    Args:
        urls: The broker's URL, or several with `;` between, which are tried in turn.
    """

    def __init__(self, urls: str) -> None:
        """Connect to nothing yet, but load what it takes: imported by two threads at once, Kombu may be half there."""
        self._urls = urls.split(";")
        for url in self._urls:
            _kombu().Connection(url).get_transport_cls()
        self._connection: Any = None
        self._producer: Any = None

    def open(self) -> bool:
        """Connect where that is not done yet, and return whether it was not; of several brokers the next is tried."""
        if self._producer is not None:
            return False
        for left in reversed(range(len(self._urls))):
            try:
                self._open_first()
                break
            except Exception:
                self.drop()
                self._urls.append(self._urls.pop(0))
                if not left:
                    raise
        return True

    def send(self, signer: Signer, queued: Queued, queue: str) -> None:
        """Send one message to a queue that `length` was asked of, and return when the broker has it.

        Args:
            signer: Signs it.
            queued: What it tells of.
            queue: Where it goes.
        """
        envelope = signer.envelope(queued)
        self._producer.publish(
            envelope.body,
            routing_key=queue,
            exchange="",
            content_type="application/json",
            content_encoding="utf-8",
            headers=envelope.headers,
            correlation_id=envelope.id,
            delivery_mode=2,
            retry=False,
            timeout=_SECONDS,
            confirm_timeout=_SECONDS,
        )

    def length(self, queue: str) -> int:
        """Return how many messages a queue has that no worker has taken; makes it where there is none.

        Args:
            queue: Its name.
        """
        is_amqp = self._connection.transport.driver_type == "amqp"
        return self._declare(
            dead_letters(is_amqp=is_amqp) if queue == DEAD_LETTERS else task_queue(queue, is_amqp=is_amqp)
        )

    def refusals(self, queues: Iterable[Any]) -> list[str]:
        """Return why the broker refuses some of these queues, a line each, as far as it answers; makes the others.

        Args:
            queues: Queues of kombu.
        """
        found = []
        for queue in queues:
            try:
                self.open()
                self._declare(queue)
            except Exception as error:  # noqa: BLE001  each library has its own
                self.drop()
                why = refusal(queue.name, error)
                if why is None:
                    break
                found.append(why)
        return found

    def drop(self) -> None:
        """Give the connection up, without a word to a broker that may not listen."""
        connection, self._connection = self._connection, None
        self._producer = None
        if connection is not None:
            with suppress(Exception):  # it is given up because it does not work
                connection.collect(socket_timeout=_SECONDS)

    def _declare(self, queue: Any) -> int:
        _, length, _ = queue(self._producer.channel).queue_declare()
        return int(length)

    def _open_first(self) -> None:
        kombu, url = _kombu(), self._urls[0]
        self._connection = kombu.Connection(url, connect_timeout=_SECONDS, heartbeat=0, transport_options=_bounds(url))
        self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_SECONDS)
        self._producer = kombu.Producer(self._connection.channel(), auto_declare=False)


def _kombu() -> Any:
    """Return the package: it has no types, and only who speaks to a broker pays for it."""
    return import_module("kombu")


def _bounds(url: str) -> dict[str, Any]:
    """Return what keeps a broker that does not answer from holding the thread, by its kind."""
    if url.startswith(("amqp", "pyamqp")):
        return {"confirm_publish": True, "read_timeout": _SECONDS, "write_timeout": _SECONDS}
    return {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS, "retry_on_timeout": False}
