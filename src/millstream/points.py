"""Crash points: named places at which a test can kill, stop or fail a process. Nothing happens there by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POINTS: Final = frozenset(
    {
        "submit-before-commit",
        "submit-after-commit",
        "after-claim",
        "before-effect",
        "after-effect",
        "in-commit",
        "after-commit",
        "after-join",
        "after-cancel-row",
        "before-settle",
        "after-settle",
        "before-pause",
        "after-answer",
        "lease-renewal",
        "migration",
        "drain",
        "retention",
    }
)
"""Every crash point there is."""

_armed: list[Callable[[str], None]] = []


def arm(act: Callable[[str], None] | None) -> None:
    """Have something done at every crash point that is reached from now on; `None` disarms them."""
    _armed[:] = [] if act is None else [act]


def reach(name: str) -> None:
    """Say that a crash point is reached."""
    if _armed:
        _armed[0](name)
