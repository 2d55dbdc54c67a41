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
        readers: How many streams of it are open, and how many polls wait for news.
    """

    __slots__ = ("_is_polled", "_seen_at", "readers")

    def __init__(self) -> None:
        """Nobody has looked yet."""
        self.readers = 0
        self._is_polled = False
        self._seen_at: float | None = None

    def came(self) -> None:
        """Take the fact that a stream was opened, or a poll came."""
        self.readers += 1

    def went(self, now: float, *, is_poll: bool = False) -> None:
        """Take the fact that a stream was closed, or a poll answered."""
        self.readers -= 1
        self._is_polled = self._is_polled or is_poll
        self._seen_at = now

    def is_given_up(self, now: float, patience: Patience) -> bool:
        """Whether those who looked have gone for good.

        >>> presence = Presence()
        >>> presence.came()
        >>> presence.went(now=10.0)
        >>> [presence.is_given_up(now, Patience(5.0, 90.0)) for now in (14.9, 15.0)]
        [False, True]
        """
        if self.readers or self._seen_at is None:
            return False
        away = now - self._seen_at
        if self._is_polled:
            return 0 < patience.polling_seconds <= away
        return away >= patience.disconnect_seconds
