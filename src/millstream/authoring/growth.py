"""What a bound task lets grow in its node's place: its replacement, and what it added to its chord."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millstream.engine.program import Drawn, Growth, Work
from millstream.errors import Ignore


class Replaced(Ignore):
    """Raised by `self.replace(...)` to end the task.

    Attributes:
        sig: What runs in its place.
    """

    def __init__(self, sig: Any) -> None:
        """Take the signature."""
        super().__init__("replaced by another task")
        self.sig = sig


class Grown(Growth):
    """A replacement, additions to the task's chord, or both.

    Args:
        own: What the task returned, where it was not replaced.
        replacement: The signature that gives its result in its stead, where it was.
        added: Signatures that it added to its chord.
    """

    def __init__(self, own: Any, replacement: Any, added: list[Any]) -> None:
        """Take what the task did."""
        self._own = own
        self._replacement = replacement
        self._added = added

    def draw(self, find: Callable[[str], Work]) -> Drawn:
        """Return the graph of all that."""
        raise NotImplementedError
