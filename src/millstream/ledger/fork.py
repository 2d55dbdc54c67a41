"""What must not reach a forked child: locks and sockets of its parent, which would outlive the parent in it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_in_child(method: Callable[[], None]) -> None:
    """Have a bound method called in every child that is forked while its object lives.

    Args:
        method: It must neither block nor raise, and must expect to be called in a child's child again.
    """
    known = weakref.WeakMethod(method)

    def call() -> None:
        alive = known()
        if alive is not None:
            alive()

    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=call)
