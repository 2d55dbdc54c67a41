"""That somebody is let in, looked at again for as long as they are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from millstream.clock import Clock
from millstream.errors import MillstreamError
from millstream.server.access.principal import Principal
from millstream.server.problem import Problem

_LOOK_SECONDS: Final = 1.0
"""How long a stream may go on before it is looked again whether it may: as long as a session is remembered."""


class Admission:
    """Says of an answer that goes on for long whether whoever gets it may still have it.

    Args:
        look: Tells who makes the request, or raises `Problem` where their sign-in or key is not valid any more.
        clock: The time.
    """

    __slots__ = ("_clock", "_look", "_looked_at")

    def __init__(self, look: Callable[[], Awaitable[Principal | None]], clock: Clock) -> None:
        """Take it that they were let in just now."""
        self._look, self._clock = look, clock
        self._looked_at = clock.monotonic()

    async def holds(self) -> bool:
        """Return whether they may be told more; a ledger that is away does not end what goes on."""
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return True
        self._looked_at = now
        try:
            return await self._look() is not None
        except Problem:
            return False
        except MillstreamError:
            return True
