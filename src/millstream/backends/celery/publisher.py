"""The thread that sends messages to the broker, so that no event loop ever waits for one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import structlog

from millstream.backends.celery.messages import DEAD_LETTERS, Signer
from millstream.backends.celery.queues import dead_letters, task_queue
from millstream.clock import chance
from millstream.ledger.base import Queued
from millstream.ledger.fork import call_in_child
from millstream.urls import without_password

_log = structlog.get_logger("millstream.backends.celery")

_SECONDS: Final = 2.0
"""How long one answer of the broker is waited for."""

_MOST: Final = 1000
"""Messages that wait for the broker; older ones are dropped, since the ledger is looked at again anyway."""

_FIRST_WAIT, _LAST_WAIT = 0.2, 5.0
_CLOSE_SECONDS: Final = 1.0


class Publisher:
    """Sends messages about queued segments.

    Nothing depends on a message, so none is kept for long: what the broker did not take is found in the ledger again.
    The thread starts with the first message, and a forked child begins with none.

    Args:
        urls: The broker's URL, or several with `;` between, which are tried in turn.
        default_queue: The queue of segments that name none.
    """

    def __init__(self, urls: str, default_queue: str) -> None:
        """Start nothing yet."""
        self._urls = urls
        self._default_queue = default_queue
        self._begin()
        call_in_child(self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Signer, Queued]] = deque(maxlen=_MOST)
        self._wanted: dict[str, tuple[Signer, Sequence[Queued]]] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._away_since: float | None = None
        self._link = _Link(self._urls)

    @property
    def is_away(self) -> bool:
        """Whether the broker did not take the last message that it was given."""
        return self._away_since is not None

    def send(self, signer: Signer, queued: Sequence[Queued]) -> None:
        """Send a message for each of these segments; neither blocks nor fails.

        Args:
            signer: Signs them.
            queued: The segments.
        """
        with self._changed:
            self._waiting.extend((signer, one) for one in queued)
            self._wake()

    def top_up(self, signer: Signer, queued: Sequence[Queued]) -> None:
        """See that there is a message for each of these segments; neither blocks nor fails.

        As many as the broker has in a queue are not sent again.

        Args:
            signer: Signs them.
            queued: The segments, as many of each queue as messages are wanted there.
        """
        wanted: dict[str, list[Queued]] = {}
        for one in queued:
            wanted.setdefault(self._queue(one), []).append(one)
        with self._changed:
            self._wanted = {queue: (signer, some) for queue, some in wanted.items()}
            if wanted:
                self._wake()

    def close(self) -> None:
        """Send what waits, for a second at most, and end the thread; blocks for as long. May be called twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    # ----------------------------------------------------------------------------------------------- the thread
    def _wake(self) -> None:
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._work, name="millstream-publisher", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _queue(self, queued: Queued) -> str:
        return queued.queue or self._default_queue

    def _work(self) -> None:
        wait = _FIRST_WAIT
        while self._await_work():
            try:
                self._do()
            except Exception as error:  # noqa: BLE001  whatever a broker does, the thread goes on
                self._link.drop()
                self._is_hindered(error)
                with self._changed:
                    if self._is_closed:
                        break
                    self._changed.wait_for(lambda: self._is_closed, wait * (0.8 + 0.4 * chance()))
                wait = min(2 * wait, _LAST_WAIT)
            else:
                wait = _FIRST_WAIT
                self._manages()
        self._link.drop()

    def _await_work(self) -> bool:
        """Wait until there is something to do; return whether to go on."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._wanted or self._is_closed)
            return bool(self._waiting) or not self._is_closed

    def _do(self) -> None:
        while self._waiting:
            signer, queued = self._waiting[0]
            self._link.send(signer, queued, self._queue(queued))
            with self._changed:
                if self._waiting and self._waiting[0][1] is queued:
                    self._waiting.popleft()
        with self._changed:
            wanted, self._wanted = self._wanted, {}
        for queue, (signer, some) in wanted.items():
            for queued in some[self._link.length(queue) :]:
                self._link.send(signer, queued, queue)

    def _is_hindered(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            _log.warning(
                "the broker takes no messages; jobs stay queued in the ledger until it does",
                broker=without_password(self._urls),
                why=_first_line(error),
            )

    def _manages(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            _log.warning("the broker takes messages again", seconds=round(away, 1))


class _Link:
    """One connection to the broker, made on first use and again after `drop`; every wait on it is bounded.

    Args:
        urls: As for `Publisher`.
    """

    def __init__(self, urls: str) -> None:
        self._urls = urls.split(";")
        self._connection: Any = None
        self._producer: Any = None
        self._declared: set[str] = set()

    def send(self, signer: Signer, queued: Queued, queue: str) -> None:
        """Send one message, and return when the broker has it."""
        producer = self._open()
        if queue not in self._declared:
            self.length(queue)
        envelope = signer.envelope(queued)
        producer.publish(
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
        """Return how many messages a queue has that no worker has taken; makes it where there is none."""
        channel = self._open().channel
        is_amqp = self._connection is not None and self._connection.transport.driver_type == "amqp"
        if is_amqp and DEAD_LETTERS not in self._declared:
            dead_letters(is_amqp=True)(channel).queue_declare()
            self._declared.add(DEAD_LETTERS)
        _, length, _ = task_queue(queue, is_amqp=is_amqp)(channel).queue_declare()
        self._declared.add(queue)
        return int(length)

    def drop(self) -> None:
        """Give the connection up, without a word to a broker that may not listen."""
        connection, self._connection = self._connection, None
        self._producer = None
        self._declared.clear()
        if connection is not None:
            with suppress(Exception):  # it is given up because it does not work
                connection.collect(socket_timeout=_SECONDS)

    def _open(self) -> Any:
        """Return what sends; the next broker is tried where one cannot be reached."""
        if self._producer is None:
            error: Exception | None = None
            for _ in self._urls:
                try:
                    return self._open_first()
                except Exception as refused:  # noqa: BLE001  each library has its own; the last one is told
                    error = refused
                    self.drop()
                    self._urls.append(self._urls.pop(0))
            if error is not None:
                raise error
        return self._producer

    def _open_first(self) -> Any:
        kombu: Any = import_module("kombu")  # in this thread, and only where a message is sent; it has no types
        url = self._urls[0]
        self._connection = kombu.Connection(url, connect_timeout=_SECONDS, heartbeat=0, transport_options=_bounds(url))
        self._connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_SECONDS)
        self._producer = kombu.Producer(self._connection.channel(), auto_declare=False)
        return self._producer


def _bounds(url: str) -> dict[str, Any]:
    """Return what keeps a broker that does not answer from holding the thread, by its kind."""
    if url.startswith(("amqp", "pyamqp")):
        return {"confirm_publish": True, "read_timeout": _SECONDS, "write_timeout": _SECONDS}
    return {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS, "retry_on_timeout": False}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
