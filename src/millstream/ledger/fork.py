"""What must not reach a forked child: locks and sockets of its parent, which would outlive the parent in it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
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


if hasattr(os, "register_at_fork"):  # not on Windows; once, since nothing takes a hook back
    os.register_at_fork(after_in_child=_call_all)
