"""What waits for a record: in a fully durable job nothing builds on what a crash could still undo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from millstream.engine.services import Sink
from millstream.graph.plan import Place

if TYPE_CHECKING:
    from millstream.engine.run import Run


class Gate:
    """Lets nodes start, and conducting flows go on, when all that was put before is recorded.

    Args:
        run: Whose nodes they are.
        sink: Tells when it is recorded.
        is_open: Whether nothing waits at all.
    """

    __slots__ = ("_run", "_sink", "is_open")

    def __init__(self, run: Run, sink: Sink, *, is_open: bool) -> None:
        """Hold nothing yet."""
        self._run = run
        self._sink = sink
        self.is_open = is_open

    def after(self, places: Sequence[Place]) -> Sequence[Place]:
        """Return the nodes that may start at once; the others start when all that was put so far is recorded."""
        if self.is_open or not places:
            return places
        self._hold(places)
        return ()

    def then(self, act: Callable[[], None]) -> None:
        """Do something when all that was put so far is recorded."""
        self._hold([act])

    def _hold(self, what: Sequence[Place | Callable[[], None]]) -> None:
        if self._sink.hold(what, self._recorded):
            self._run.hold()

    def _recorded(self, held: Sequence[Any]) -> None:
        places = []
        for item in held:
            if type(item) is tuple:
                places.append(item)
            else:
                item()
        self._run.resume(places)
