"""Says that a ledger has no room: once when that begins, seldom while it lasts, and once when it is over."""

from __future__ import annotations

import time

from millstream.log import get_logger

_log = get_logger("millstream.ledger")

_SAY_SECONDS = 60.0


class Shortage:
    """Whether a ledger lacks room, as far as one process has met it. For the writer's thread."""

    def __init__(self) -> None:
        """Begin with room."""
        self._said_at: float | None = None

    def met(self, error: Exception) -> None:
        """Take note that something could not be written for want of room."""
        now = time.monotonic()
        if self._said_at is None or now - self._said_at >= _SAY_SECONDS:
            self._said_at = now
            _log.warning("the ledger has no room; what happened is kept, and written when it has", why=str(error))

    def lost(self) -> None:
        """Take note that what could not be written will not be tried again."""
        self._said_at = None

    def over(self) -> None:
        """Take note that all is written."""
        if self._said_at is not None:
            self._said_at = None
            _log.warning("the ledger has room again, and what was kept is written")
