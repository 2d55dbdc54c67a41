"""Runs a function in a forked child, so that nothing that it imports or opens stays in this process."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class ChildDiedError(Exception):
    """Raised when the child ended before it returned anything."""


def aside(work: Callable[[], T]) -> T:
    """Return what a function returns in a forked child; blocks until the child has ended.

    Call it only where no other thread runs. Signals have their default effect in the child.

    Args:
        work: What it returns has to be picklable; it raises nothing.

    Raises:
        ChildDiedError: The child was killed.

    Example:
        >>> aside(os.getpid) == os.getpid()
        False
    """
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _run(work, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(pid, 0)
    if not told:
        how = os.waitstatus_to_exitcode(status)
        raise ChildDiedError(f"the process that was to prepare the start ended with {how}")
    value: T = pickle.loads(told)  # noqa: S301  our own child wrote it
    return value


def _run(work: Callable[[], object], answer: int) -> None:
    """Be the child: do the work, and end without what a Python program does at its end, which is the parent's."""
    code = 1
    try:
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        told = pickle.dumps(work())
        with os.fdopen(answer, "wb") as file:
            file.write(told)
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)
