"""What a system under measurement is: it turns a shape into something that runs once per call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from benchmarks.shapes import Shape

Once = Callable[[], Awaitable[None]]
"""Runs a shape from submission to result, and checks the result."""


class NotComparableError(Exception):
    """Raised when a system cannot run a shape in a way that says anything; the message says why."""


class System(Protocol):
    """One way of running graphs; it lives in a process of its own."""

    title: str
    notes: Mapping[str, str]
    """What to know about its figure for a shape, by the shape's name."""

    async def open(self, shape: Shape) -> Once:
        """Prepare whatever does not belong to the run itself, and check once that every node runs."""

    async def close(self) -> None:
        """Give back what `open` took; the same shape may be opened again."""


class Staged(Protocol):
    """A system whose workers run what it submits; it takes part in scenes, see `benchmarks.scenes`."""

    title: str

    def begin(self, broker: str) -> Any:
        """Start its workers, which end with this process, and return the kit that scenes are played with.

        Args:
            broker: URL of a broker that no other system uses.
        """
