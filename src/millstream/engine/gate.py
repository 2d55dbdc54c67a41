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

    __slots__ = ("_records", "_run", "_sink", "is_open")

    def __init__(self, run: Run, sink: Sink, *, is_open: bool) -> None:
        """Hold nothing yet."""
        self._run = run
        self._sink = sink
        self._records = 0
        self.is_open = is_open

    def after(self, places: Sequence[Place]) -> Sequence[Place]:
        """Return the nodes that may start at once; the others start when all that was put so far is recorded."""
        if self.is_open or not places:
            return places
        self._hold(places)
        return ()

    def recorded(self, places: Sequence[Place]) -> Sequence[Place]:
        """Let nodes start when all that was put so far is recorded, however durable the job is otherwise."""
        self._hold(places)
        return ()

    def behind(self, places: Sequence[Place], *, is_pure: bool) -> Sequence[Place]:
        """Return the nodes that may start at once behind a result, which may be computed anew if it is pure.

        They may build on other results too: a pure one opens the gate only while no other waits to be recorded.
        """
        if not is_pure:
            self._hold(places or (_nothing,))
        elif self._records:
            self._hold(places)
        else:
            return places
        return ()

    def then(self, act: Callable[[], None], *, is_pure: bool = False) -> None:
        """Do something when all that was put so far is recorded; at once behind a pure result, like `behind`."""
        if is_pure and not self._records:
            act()
        else:
            self._hold([act])

    def _hold(self, what: Sequence[Place | Callable[[], None]]) -> None:
        if self._sink.hold(what, self._recorded):
            self._records += 1
            self._run.hold()

    def _recorded(self, held: Sequence[Any]) -> None:
        self._records -= 1
        places = []
        for item in held:
            if type(item) is tuple:
                places.append(item)
            else:
                item()
        self._run.resume(places)


def _nothing() -> None:
    """Wait for a record without doing anything then."""
