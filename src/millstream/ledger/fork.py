"""What must not reach a forked child: locks and sockets of its parent, which would outlive the parent in it.

Nor a database's library in the middle of its work: SQLite keeps in memory which locks the process has on a file, and a
child that got that table while its parent wrote would wait for ever for a lock that nobody in it holds.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

_numbers = count()
_known: dict[int, weakref.WeakMethod[Callable[[], None]]] = {}
"""What is called, by number, in the order of registration; an object that goes takes its entry."""


def call_in_child(method: Callable[[], None]) -> None:
    """Have a bound method called in every child that is forked while its object lives.

    Args:
        method: It must neither block nor raise, and must expect to be called in a child's child again.
    """
    number = next(_numbers)
    _known[number] = weakref.WeakMethod(method, lambda _: _known.pop(number, None))


def _call_all() -> None:
    for known in list(_known.values()):
        method = known()
        if method is not None:
            method()


_PATIENCE_SECONDS = 2.0
"""How long a fork waits for work that is under way: longer than any transaction that a database answers."""


class _Gate:
    """Lets work begin while nobody forks, and forks while no work is under way."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all: in a child there are none of the threads that work."""
        self._changed = threading.Condition()
        self._working = 0
        self._forking = 0

    def begin(self) -> None:
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._working += 1

    def end(self) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: not self._working, _PATIENCE_SECONDS)

    def open(self) -> None:
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()


_gate = _Gate()


@contextmanager
def between_forks() -> Iterator[None]:
    """Let no fork happen while a database is worked with inside; a fork waits for at most two seconds."""
    _gate.begin()
    try:
        yield
    finally:
        _gate.end()


def _after_in_child() -> None:
    _gate.reset()
    _call_all()


if hasattr(os, "register_at_fork"):  # not on Windows; once, since nothing takes a hook back
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_after_in_child)
