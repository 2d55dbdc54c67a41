"""Whether anybody still looks at a build that was begun to be looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a build goes on that nobody looks at any more.

    Attributes:
        disconnect_seconds: After its last stream was closed.
        polling_seconds: After its last poll, if it was ever polled; 0 sets no bound.
    """

    disconnect_seconds: float
    polling_seconds: float


class Presence:
    """Who looks at one build, in this process.

    One that nobody ever looked at runs to its end, and so does one that was not begun to be looked at (see `Builds`).

    Attributes:
        streams: How many streams of it are open.
    """

    __slots__ = ("_is_polled", "_seen_at", "streams")

    def __init__(self) -> None:
        """Nobody has looked yet."""
        self.streams = 0
        self._is_polled = False
        self._seen_at: float | None = None

    def opened(self) -> None:
        """Take the fact that a stream was opened."""
        self.streams += 1

    def closed(self, now: float) -> None:
        """Take the fact that a stream was closed."""
        self.streams -= 1
        self._seen_at = now

    def polled(self, now: float) -> None:
        """Take the fact that somebody asked for news."""
        self._is_polled = True
        self._seen_at = now

    def is_given_up(self, now: float, patience: Patience) -> bool:
        """Whether those who looked have gone for good.

        >>> presence = Presence()
        >>> presence.opened()
        >>> presence.closed(now=10.0)
        >>> [presence.is_given_up(now, Patience(5.0, 90.0)) for now in (14.9, 15.0)]
        [False, True]
        """
        if self.streams or self._seen_at is None:
            return False
        away = now - self._seen_at
        if self._is_polled:
            return 0 < patience.polling_seconds <= away
        return away >= patience.disconnect_seconds
