"""What `millstream doctor` finds: one line for each thing that it checks."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was checked.
        is_ok: Whether it works.
        detail: What was found.
        milliseconds: How long that took.
    """

    check: str
    is_ok: bool
    detail: str
    milliseconds: float


def since(began: float) -> float:
    """Return the milliseconds since `time.perf_counter()` was this."""
    return round((time.perf_counter() - began) * 1000, 1)
