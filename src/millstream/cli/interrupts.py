"""Ctrl-C and SIGTERM: the first one asks the job to stop, the second one kills the program at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from millstream.cli.exits import exit_of_signal

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What signals do while a job runs, in a `with` block around the event loop.

    Python's own signal handlers take them, not the loop's: a task that blocks the loop must not block a kill.

    Args:
        first: Called in the handler of the first signal: to say so.
        before_kill: Called before the program is killed: to leave the terminal as it was.

    Attributes:
        received: The first signal that came, or `None`.
    """

    def __init__(self, first: Callable[[], None], before_kill: Callable[[], None]) -> None:
        """Take no signals yet."""
        self.received: int | None = None
        self._first = first
        self._before_kill = before_kill
        self._stop: tuple[asyncio.AbstractEventLoop, Callable[[], object]] | None = None
        self._former: dict[int, Any] = {}

    def stop_by(self, stop: Callable[[], object]) -> None:
        """Say what the first signal calls, on the running loop; at once if it has come already."""
        loop = asyncio.get_running_loop()
        self._stop = (loop, stop)
        if self.received is not None:
            loop.call_soon(stop)

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._former = {signum: signal.signal(signum, self._take) for signum in _SIGNALS}
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for signum, former in self._former.items():
            signal.signal(signum, former)

    def _take(self, signum: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self._kill(signum)
        self.received = signum
        if self._stop is not None:
            loop, stop = self._stop
            with suppress(RuntimeError):  # the loop is closed: it is over anyway
                loop.call_soon_threadsafe(stop)
        with suppress(RuntimeError):  # it came while the program wrote to the same stream: no nesting there
            self._first()

    def _kill(self, signum: int) -> NoReturn:
        """End the program here and now; the processes of its pool die with it."""
        self._before_kill()
        os._exit(exit_of_signal(signum))
