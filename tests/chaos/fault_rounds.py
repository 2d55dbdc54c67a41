"""A round of chaos in which things happen from outside in turn: processes are killed or stopped, servers fail."""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from millstream.testing.invariants import Violation
from tests.chaos.rounds import Round, Setup

STILL_SECONDS = 1.5
"""For how long a server answers nobody, and beyond its lease a process stands still."""

_PATIENCE = 10.0
_IDLE_SECONDS = 90.0
_LOOK_SECONDS = 0.01


class FaultRound(Round):
    """Plays one round; what can happen, and how, its kinds say.

    Args:
        setup: How.
    """

    def __init__(self, setup: Setup) -> None:
        """Prepare; nothing is started."""
        super().__init__(setup)
        self._later: list[tuple[float, Callable[[], None]]] = []

    @abstractmethod
    def _faults(self) -> Sequence[str]:
        """Return what can happen, each as often as it is to happen in a turn of all."""

    @abstractmethod
    def _happens(self, fault: str) -> bool:
        """Let something happen, if it can now; return whether it did."""

    def _kill_until_enough(self) -> None:
        """Let one thing happen after the other, and replace who is missing, until enough processes were killed."""
        chance = random.Random(self._setup.seed)  # noqa: S311  to be told by its seed
        given = self._faults()
        turn: list[str] = []
        due, last = 0.0, time.monotonic()
        until = last + _PATIENCE
        while self._outcome.kills < self._setup.kills:
            self._fill(is_armed=False)
            self._bury()
            self._do_what_is_due()
            turn = turn or chance.sample(given, len(given))
            now = time.monotonic()
            if now >= due and ((has_happened := self._happens(turn[0])) or now > until):
                due = now + self._chance.uniform(0.05, 0.4)
                until, last = due + _PATIENCE, now if has_happened else last
                del turn[0]
            if now > last + _IDLE_SECONDS:
                self._outcome.violations.append(Violation("I2", "", f"nothing ran for {_IDLE_SECONDS:g} s"))
                return
            time.sleep(_LOOK_SECONDS)

    def _count(self, what: str, *, is_busy: bool) -> None:
        """Take note of a kill."""
        self._outcome.kills += 1
        self._outcome.in_a_node += is_busy
        self._outcome.points[what] += 1

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after so many seconds."""
        self._later.append((time.monotonic() + seconds, act))

    def _do_what_is_due(self, *, at_once: bool = False) -> None:
        for due in [due for due in self._later if at_once or due[0] <= time.monotonic()]:
            self._later.remove(due)
            due[1]()
