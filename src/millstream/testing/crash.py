"""Arms the crash points of a process, as its environment says: there it kills, stops, ends or fails itself.

To start the command line with armed points:

    CRASH_AT=after-claim:3:kill python -m millstream.testing.crash worker --app shop.tasks
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from millstream import points
from millstream.testing.history import Died, ObservationLog

AT = "CRASH_AT"
"""The variable that tells where to crash: `<point>:<when>:<action>`, several separated by commas.

`<point>` is one of `points.POINTS`, or `*` for all of them. `<when>` is a whole number n for the n-th time that it is
reached, or `<chance>@<seed>`, such as `0.02@7`, for a chance each time. `<action>` is one of `Action`.
"""

LOG = "CRASH_LOG"
"""The variable that names the file in which each crash is observed before it happens."""

Action = Literal["kill", "stop", "term", "raise"]
"""`kill`: SIGKILL. `stop`: SIGSTOP, until somebody sends SIGCONT. `term`: SIGTERM. `raise`: a `CrashError`."""

_CRASH = re.compile(
    r"(?P<point>\*|[a-z-]+):((?P<nth>[1-9]\d*)|(?P<chance>[01]|0?\.\d+)@(?P<seed>\d+)):(?P<action>kill|stop|term|raise)"
)
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}


class CrashError(Exception):
    """Raised at a crash point that was armed with `raise`."""


class Crash(NamedTuple):
    """What happens at a crash point.

    Attributes:
        point: Its name; `*` for all.
        nth: It happens when the point is reached for the n-th time, from 1; 0: by chance.
        action: What happens.
        chance: The chance each time, 0 to 1.
        seed: Makes the chance the same each time.
    """

    point: str
    nth: int
    action: Action
    chance: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        """Return the written form."""
        return f"{self.point}:{self.nth or f'{self.chance}@{self.seed}'}:{self.action}"

    @classmethod
    def parse(cls, text: str) -> Crash:
        """Return the crash that `text` writes.

        Raises:
            ValueError: It writes none, or names a point that there is not.

        >>> Crash.parse("after-claim:3:kill")
        Crash(point='after-claim', nth=3, action='kill', chance=0.0, seed=0)
        """
        match = _CRASH.fullmatch(text.strip())
        if match is None or match["point"] not in points.POINTS | {"*"}:
            raise ValueError(f"{AT}: {text!r} is not of the form after-claim:3:kill, or names no crash point")
        point, action = match["point"], cast("Action", match["action"])
        if match["nth"]:
            return cls(point, int(match["nth"]), action)
        return cls(point, 0, action, float(match["chance"]), int(match["seed"]))


class Armed:
    """Counts the crash points that are reached, in all threads, and crashes at the chosen ones.

    Args:
        crashes: Where, when and how.
        log: Where crashes are observed before they happen.

    Attributes:
        reached: How often each point was reached so far.
    """

    def __init__(self, *crashes: Crash, log: ObservationLog | None = None) -> None:
        """Take what is to happen; `points.arm(armed)` makes it so."""
        self.reached: Counter[str] = Counter()
        self._crashes = [(crash, random.Random(crash.seed)) for crash in crashes]  # noqa: S311  to be the same again
        self._total = 0
        self._log = log
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        """Take that a point is reached."""
        if name not in points.POINTS:
            raise ValueError(f"the crash point {name!r} is not in points.POINTS")
        with self._lock:
            self.reached[name] += 1
            self._total += 1
            due = [crash for crash, chance in self._crashes if self._is_due(crash, name, chance)]
        for crash in due:
            self._crash(crash, name)

    def _is_due(self, crash: Crash, name: str, chance: random.Random) -> bool:
        if crash.point not in ("*", name):
            return False
        if not crash.nth:
            return chance.random() < crash.chance
        return crash.nth == (self._total if crash.point == "*" else self.reached[name])

    def _crash(self, crash: Crash, name: str) -> None:
        if self._log is not None:
            self._log.put(Died(pid=os.getpid(), how=crash.action, point=name))
        if crash.action == "raise":
            raise CrashError(f"at {name}")
        os.kill(os.getpid(), _SIGNALS[crash.action])


def arm_from(environment: Mapping[str, str]) -> Armed | None:
    """Arm the points as an environment says, and return what counts them; `None` where it says nothing.

    Raises:
        ValueError: It says what cannot be.
    """
    if not environment.get(AT):
        return None
    log = ObservationLog(environment[LOG]) if environment.get(LOG) else None
    armed = Armed(*map(Crash.parse, environment[AT].split(",")), log=log)
    points.arm(armed)
    return armed


if __name__ == "__main__":
    from millstream.__main__ import main

    arm_from(os.environ)
    sys.exit(main())
