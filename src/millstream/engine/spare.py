"""Calls that wait here for a free thread or process, and that others could execute as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from millstream.engine.node_call import NodeCall
from millstream.engine.program import INTERNAL
from millstream.graph.plan import Place

if TYPE_CHECKING:
    from millstream.engine.run import Run

PACK_SECONDS = 0.2
"""What the nodes of one side segment should cost together: far more than it costs to hand them out."""

PACK_NODES = 256
"""At most so many nodes go into one side segment."""


class Spare:
    """What one run could leave to others.

    Args:
        run: Whose calls they are.
        cost: Gives what a node costs, in seconds, where that is known.
        kind: Gives what nodes that go together have in common.
    """

    def __init__(self, run: Run, cost: Callable[[Place], float | None], kind: Callable[[Place], Any]) -> None:
        """Take nothing yet."""
        self._run = run
        self._cost = cost
        self._kind = kind

    def take(self) -> list[Place]:
        """Take back as many calls that have not begun as go into a side segment; none where they are cheap."""
        for take in (self._take_thread, self._take_process):
            pack, seconds = list[Place](), 0.0
            while len(pack) < PACK_NODES and seconds < PACK_SECONDS:
                place = take(pack[0] if pack else None)
                if place is None:
                    break
                pack.append(place)
                cost = self._cost(place)
                seconds += PACK_SECONDS if cost is None else cost
            if pack:
                return pack
        return []

    def _take_thread(self, like: Place | None) -> Place | None:
        """Take the call back that would be the last to find a thread."""
        run = self._run
        if like is None and not self._is_much_left():
            return None
        call = run.services.threads.take_last(lambda call: self._may_leave(call, like))
        if not isinstance(call, NodeCall):
            return None
        call.disarm()
        run.threads.discard(call)
        run.resume(())
        return call.frame, call.index

    def _is_much_left(self) -> bool:
        """Whether what waits for a thread here costs enough that it is worth the handing out."""
        threads = self._run.services.threads
        last = threads.last()
        if not isinstance(last, NodeCall):
            return last is not None
        cost = self._cost((last.frame, last.index))
        return cost is None or cost * threads.waiting >= PACK_SECONDS

    def _may_leave(self, call: Any, like: Place | None) -> bool:
        return isinstance(call, NodeCall) and call.run is self._run and self._is_free((call.frame, call.index), like)

    def _is_free(self, place: Place, like: Place | None) -> bool:
        """Whether a node may be executed by others, in one segment with another one."""
        frame, index = place
        node, work = frame.node(index), frame.content.work(index)
        if node.kind != "task" or node.task.startswith(INTERNAL) or "<" in work.fn.__qualname__:
            return False
        if frame.content.policy(index).effect == "once":
            return False  # that it begins is on record already
        return like is None or self._kind(like) == self._kind(place)

    def _take_process(self, like: Place | None) -> Place | None:
        """Take the last call back that waits for a process."""
        run = self._run
        for place in reversed(run.unbegun):
            if self._is_free(place, like):
                run.unbegun.pop(place).take_back()
                return place
        return None
