"""The thread that sends messages to the broker, so that no event loop ever waits for one."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from millstream.backends.celery.link import Link
from millstream.backends.celery.messages import DEAD_LETTERS, Signer
from millstream.backends.celery.queues import refusal
from millstream.clock import chance
from millstream.ledger.fork import call_in_child
from millstream.ledger.queued import Queued
from millstream.log import get_logger
from millstream.urls import without_password

_log = get_logger("millstream.backends.celery")

_MOST: Final = 1000
"""Segments that wait for the broker; older ones are dropped, since the ledger is looked at again anyway."""

_FIRST_WAIT, _LAST_WAIT = 0.2, 5.0
_CLOSE_SECONDS: Final = 1.0

_FIRST_PACE, _LAST_PACE = 2.0, 30.0
"""Seconds until another message about the same segment: at first, and at most."""

_ASIDE_SECONDS: Final = 10.0
"""After this a queue that the broker refuses is tried again."""


class Publisher:
    """Sends messages about queued segments: few, since each only wakes a worker, which then takes what is first.

    Nothing depends on a message, so none is kept for long: what the broker did not take is found in the ledger again.
    A queue that the broker refuses is left alone for a while, and all others are served. The thread starts with the
    first message, and a forked child begins with none.

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
        self._signer: Signer
        self._waiting: deque[Queued] = deque(maxlen=_MOST)
        self._wanted: Sequence[Queued] | None = None
        self._most = 1
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._away_since: float | None = None
        self._aside: dict[str, float] = {}
        self._pace = _Pace()
        self._link = Link(self._urls)

    @property
    def is_away(self) -> bool:
        """Whether the broker did not take the last message that it was given."""
        return self._away_since is not None

    def send(self, signer: Signer, queued: Sequence[Queued], most: int) -> None:
        """Send messages for segments that were just queued; neither blocks nor fails.

        Args:
            signer: Signs them.
            queued: The segments.
            most: Where one of the broker's queues has so many messages, no more are sent there; 1 or more.
        """
        with self._changed:
            self._signer, self._most = signer, most
            self._waiting.extend(queued)
            if queued:
                self._wake()

    def top_up(self, signer: Signer, queued: Sequence[Queued], most: int) -> None:
        """See that there are messages for what is queued in the ledger; neither blocks nor fails.

        A segment for which one was sent before gets another after a time that doubles with each. Where a queue is full
        of others' messages, one that had none yet gets it all the same, since it would else wait for all of theirs.

        Args:
            signer: Signs them.
            queued: All that there is, the first ones of each flow and queue.
            most: As for `send`; where it changes, other workers are there, and all may be sent anew.
        """
        with self._changed:
            self._signer, self._most, self._wanted = signer, most, queued
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
            self._changed.wait_for(lambda: self._waiting or self._wanted is not None or self._is_closed)
            return bool(self._waiting) or not self._is_closed

    def _do(self) -> None:
        """Send what is to be sent; what is left when that fails is there for the next time."""
        while new := list(self._waiting):
            for queue, queued in self._by_queue(new):
                self._attempt(queue, partial(self._tell, queued))
            with self._changed:
                for one in new:
                    if self._waiting and self._waiting[0] is one:
                        self._waiting.popleft()
        wanted = self._wanted
        if wanted is None:
            return
        self._pace.keep(wanted, self._most)
        for queue, queued in self._by_queue(wanted):
            self._attempt(queue, partial(self._tell_again, queued))
        with self._changed:
            if self._wanted is wanted:
                self._wanted = None

    def _by_queue(self, queued: Iterable[Queued]) -> list[tuple[str, list[Queued]]]:
        found: dict[str, list[Queued]] = {}
        for one in queued:
            found.setdefault(one.queue or self._default_queue, []).append(one)
        return list(found.items())

    def _attempt(self, queue: str, act: Callable[[str], object]) -> None:
        """Do something with a queue; one that the broker refuses is set aside, and keeps nobody from the others."""
        if time.monotonic() < self._aside.get(queue, 0.0):
            return
        while self._link.open() and queue != DEAD_LETTERS:
            self._attempt(DEAD_LETTERS, self._link.length)
        try:
            act(queue)
        except Exception as error:
            why = refusal(queue, error)
            if why is None:
                raise
            self._link.drop()
            if queue not in self._aside:
                _log.error("the broker refuses a queue; what is queued there waits, all else goes on", why=why)
            self._aside[queue] = time.monotonic() + _ASIDE_SECONDS
        else:
            if self._aside.pop(queue, None) is not None:
                _log.warning("the broker takes a queue again", queue=queue)

    def _tell(self, queued: Sequence[Queued], queue: str) -> None:
        new = [one for one in queued if self._pace.is_due(one)]
        self._send(new[: max(0, self._most - self._link.length(queue))], queue)

    def _tell_again(self, queued: Sequence[Queued], queue: str) -> None:
        due = [one for one in queued if self._pace.is_due(one)]
        if due:
            room = min(self._most, len(queued)) - self._link.length(queue)
            self._send(due[:room] if room > 0 else [one for one in due if self._pace.is_new(one)][:1], queue)

    def _send(self, queued: Sequence[Queued], queue: str) -> None:
        for one in queued:
            self._link.send(self._signer, one, queue)
            self._pace.sent(one)

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


class _Pace:
    """How soon another message about the same segment is worth it: nobody may be there who can execute it."""

    def __init__(self) -> None:
        self._next: dict[Queued, tuple[float, float]] = {}
        self._most: int | None = None

    def keep(self, queued: Iterable[Queued], most: int) -> None:
        """Forget all but these segments, and also these where other workers are there than before."""
        kept = self._next if self._most in (None, most) else {}
        self._next = {one: kept[one] for one in queued if one in kept}
        self._most = most

    def is_new(self, queued: Queued) -> bool:
        """Whether no message was sent about a segment."""
        return queued not in self._next

    def is_due(self, queued: Queued) -> bool:
        """Whether another message may be sent about a segment."""
        return self.is_new(queued) or time.monotonic() >= self._next[queued][0]

    def sent(self, queued: Queued) -> None:
        """Take note that one was."""
        if len(self._next) >= _MOST:  # of a process that never looks at all that is queued
            self._next.clear()
        wait = _FIRST_PACE if self.is_new(queued) else min(2 * self._next[queued][1], _LAST_PACE)
        self._next[queued] = time.monotonic() + wait, wait


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
