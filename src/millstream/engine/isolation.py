"""Isolation: a segment in which processes died runs each node in a process of its own, to find out which one kills."""

from __future__ import annotations

from millstream.engine.program import Mode, Work
from millstream.errors import PoisonError
from millstream.graph.plan import Place

DEATHS_BEFORE_ISOLATION = 2
"""Processes that died in a segment before its nodes are set apart: one death may be anybody's fault."""

_MOVED = frozenset({Mode.LOOP, Mode.INLINE, Mode.THREAD})


class Isolation:
    """How often each node of a segment killed a process of its own.

    Args:
        crashes: How many processes died in the segment before.
        max_crashes: Deaths after which a node fails.
    """

    __slots__ = ("_crashes", "_deaths", "_max_crashes")

    def __init__(self, crashes: int, max_crashes: int) -> None:
        """Start with no death."""
        self._crashes = crashes
        self._max_crashes = max_crashes
        self._deaths: dict[Place, int] = {}

    def mode(self, mode: Mode, work: Work, kind: str) -> Mode:
        """Return where a node runs now.

        What cannot leave the process (the body of a conducting flow, a local function) runs here as ever, alone among
        the segments that crashed; it fails when as many processes died of that as may.

        Raises:
            PoisonError: They did.
        """
        if mode not in _MOVED:
            return mode
        if kind == "task" and "<" not in work.fn.__qualname__:
            return Mode.PROCESS
        if self._crashes >= DEATHS_BEFORE_ISOLATION + self._max_crashes:
            raise PoisonError(f"{self._crashes} processes died while they ran it")
        return mode

    def is_poison(self, place: Place) -> bool:
        """Note that a node killed its process; return whether that was once too often."""
        deaths = self._deaths[place] = self._deaths.get(place, 0) + 1
        return deaths >= self._max_crashes
