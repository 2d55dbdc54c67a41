"""What a bound task lets grow in its node's place: its replacement, and what it added to its chord."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millstream.authoring.canvas.primitives import chord, group
from millstream.authoring.canvas.signature import Signature
from millstream.engine.program import GATHER, MEMBERS, Drawn, Growth, Work
from millstream.errors import Ignore


class Replaced(Ignore):
    """Raised by `self.replace(...)` to end the task.

    Attributes:
        sig: What runs in its place.
    """

    def __init__(self, sig: Signature) -> None:
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

    def __init__(self, own: Any, replacement: Signature | None, added: list[Signature]) -> None:
        """Take what the task did."""
        self._own = own
        self._replacement = replacement
        self._added = added

    def draw(self, find: Callable[[str], Work]) -> Drawn:
        """Return the graph of all that."""
        from millstream.authoring.canvas.layout import draw_canvas  # noqa: PLC0415  a layout knows tasks, which know this

        return draw_canvas(self._canvas(), find)

    def _canvas(self) -> Signature:
        """Return what stands at the task's node: the replacement, or a chord that joins its result with the additions.

        A group that stands directly in a chord's header would be taken apart, so it is made one list first.
        """
        if self._replacement is None:
            return chord(self._added, Signature(MEMBERS, (self._own,)))
        if not self._added:
            return self._replacement
        is_group = isinstance(self._replacement, group)
        first = chord(self._replacement, Signature(GATHER)) if is_group else self._replacement
        return chord([first, *self._added], Signature(MEMBERS))
