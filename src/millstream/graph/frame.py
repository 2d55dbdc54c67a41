"""One level of a plan: the nodes of one graph (`GraphFrame`), or the items of one map (`ItemsFrame`).

A frame counts; it never sweeps. What each node waits for is one counter, and each edge is touched once. Further counts
exist only for nodes that met something other than a success.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from millstream.graph.joins import Votes, verdict
from millstream.graph.shape import Shape
from millstream.model.graph import Node
from millstream.model.job import NodeState

PENDING, READY, SUCCEEDED = int(NodeState.PENDING), int(NodeState.READY), int(NodeState.SUCCEEDED)
CANCELLED = int(NodeState.CANCELLED)
_BAD = frozenset({NodeState.FAILED, NodeState.UPSTREAM_FAILED})

DEFAULT_WINDOW = 1000
"""Items of a map that are open at once where its `in_flight` says nothing: enough to keep any engine busy, few enough
that a map over millions of items costs no memory before they start."""

Ends = tuple[list[int], list[tuple[int, NodeState]]]
"""What one end leads to in its frame: nodes that may start, and nodes that ended without running."""


class Frame(ABC):
    """What both kinds of frame have.

    Attributes:
        path: Where it is, such as `report` or `train[3]`; the root frame's is empty.
        parent: The frame with the node that it stands for; the root frame has none.
        index: That node's index.
        todo: How many of its nodes have not ended.
        size: How many nodes it has.
        depth: How many frames are above it.
        children: Frames in the place of its nodes, by the node's index.
        content: For whoever drives the plan to keep what belongs to the frame; the planner never looks at it.
    """

    __slots__ = ("children", "content", "depth", "index", "parent", "path", "size", "todo")

    def __init__(self, path: str, parent: Frame | None, index: int, size: int) -> None:
        """Hang the frame under its parent."""
        self.path = path
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.index = index
        self.size = size
        self.todo = size
        self.children: dict[int, list[Frame]] = {}
        self.content: Any = None
        if parent is not None:
            parent.children.setdefault(index, []).append(self)

    @property
    def ends_its_node(self) -> bool:
        """Whether the node it stands for ends with it (a loop's or a conducting flow's node decides for itself)."""
        return self.parent is None or self.path == self.parent.name(self.index)

    @abstractmethod
    def name(self, index: int) -> str:
        """Return a node's path."""

    @abstractmethod
    def find(self, rest: str) -> tuple[int | None, str]:
        """Return the node that a path's part behind `path` leads to, and what of the path is left behind it."""

    @abstractmethod
    def node(self, index: int) -> Node:
        """Return what stands at a place."""

    @abstractmethod
    def state(self, index: int) -> int:
        """Return a node's state."""

    @abstractmethod
    def open(self) -> Sequence[int]:
        """Return the nodes that start at once."""

    @abstractmethod
    def advance(self, index: int) -> Sequence[int] | None:
        """Take a success where nothing else has ever happened, and return the nodes that may start.

        Returns `None`, and has done nothing, where that is not so; `Plan.ended` then does it.
        """

    @abstractmethod
    def end(self, index: int, state: NodeState, label: str | None) -> Ends:
        """Take the fact that a node ended."""

    @abstractmethod
    def released(self) -> Iterator[int]:
        """Yield the nodes that may have started and have not ended."""

    @abstractmethod
    def outcome(self) -> NodeState:
        """Return how the frame as a whole ended, once `todo` is 0."""

    @abstractmethod
    def cancel(self) -> None:
        """End every node that has not ended as cancelled."""


_HEAD = re.compile(r"[^/\[#]+")


class GraphFrame(Frame):
    """The nodes of one graph.

    Attributes:
        shape: The compiled graph.
        states: A byte per node, its `NodeState`.
        left: Per node, how many predecessors have not ended.
        spoiled: For nodes with predecessors that did not succeed: how many failed, were skipped, were blocked.
        labels: What routers chose, as far as an edge asks for it.
    """

    __slots__ = ("_prefix", "labels", "left", "shape", "spoiled", "states")

    def __init__(self, path: str, parent: Frame | None, index: int, shape: Shape) -> None:
        """Start with nothing released."""
        super().__init__(path, parent, index, shape.size)
        self.shape = shape
        self.states = bytearray(shape.size)
        self.left = shape.indegree.copy()
        self.spoiled: dict[int, list[int]] = {}
        self.labels: dict[int, str] = {}
        self._prefix = f"{path}/" if path else ""

    def name(self, index: int) -> str:
        """Return a node's path."""
        return self._prefix + self.shape.graph.nodes[index].id

    def find(self, rest: str) -> tuple[int | None, str]:
        """Return the node that the first name in `rest` names, and what follows that name."""
        if self.path and not rest.startswith("/"):
            return None, rest
        match = _HEAD.match(rest, 1 if self.path else 0)
        if match is None:
            return None, rest
        return self.shape.index_of.get(match[0]), rest[match.end() :]

    def node(self, index: int) -> Node:
        """Return what stands at a place."""
        return self.shape.graph.nodes[index]

    def state(self, index: int) -> int:
        """Return a node's state."""
        return self.states[index]

    def open(self) -> Sequence[int]:
        """Release the roots."""
        fresh = [index for index in self.shape.roots if self.states[index] == PENDING]
        for index in fresh:
            self.states[index] = READY
        return fresh

    def advance(self, index: int) -> list[int] | None:
        """Take a success on the path where all goes well; this is the planner's hot path."""
        states = self.states
        if self.spoiled or self.shape.slow[index] or states[index] >= SUCCEEDED or index in self.children:
            return None
        states[index] = SUCCEEDED
        self.todo -= 1
        left = self.left
        ready = []
        for target in self.shape.fast[index]:
            left[target] = count = left[target] - 1
            if not count and not states[target]:
                states[target] = READY
                ready.append(target)
        return ready

    def end(self, index: int, state: NodeState, label: str | None) -> Ends:
        """Take an end of any kind, with all that follows from it in this graph."""
        ready: list[int] = []
        ended: list[tuple[int, NodeState]] = []
        if label is not None and self.shape.slow[index]:
            self.labels[index] = label
        stack = [(index, state)]
        while stack:
            source, how = stack.pop()
            if self.states[source] >= SUCCEEDED:
                continue
            self.states[source] = how
            self.todo -= 1
            if source != index:
                ended.append((source, how))
            for target, vote in self._votes_of(source, how):
                self._count(target, vote)
                if self.states[target]:
                    continue
                then = self._verdict(target)
                if then is NodeState.READY:
                    self.states[target] = READY
                    ready.append(target)
                elif then is not NodeState.PENDING:
                    stack.append((target, then))
        return ready, ended

    def _votes_of(self, source: int, how: NodeState) -> Iterator[tuple[int, NodeState]]:
        for target in self.shape.fast[source]:
            yield target, how
        chosen = self.labels.get(source)
        for target, label in self.shape.slow[source]:
            passed_by = how is NodeState.SUCCEEDED and label is not None and label != chosen
            yield target, NodeState.SKIPPED if passed_by else how

    def _count(self, target: int, vote: NodeState) -> None:
        self.left[target] -= 1
        if vote is not NodeState.SUCCEEDED:
            counts = self.spoiled.setdefault(target, [0, 0, 0])
            counts[_COLUMN[vote]] += 1

    def _verdict(self, target: int) -> NodeState:
        node = self.shape.graph.nodes[target]
        failed, skipped, upstream = self.spoiled.get(target, (0, 0, 0))
        left = self.left[target]
        ok = self.shape.indegree[target] - left - failed - skipped - upstream
        return verdict(node.join, Votes(ok, failed, skipped, upstream, left), node.k)

    def restore(self, states: bytes, labels: dict[int, str]) -> None:
        """Put back what a blob holds; all counters follow from it."""
        self.labels = dict(labels)
        for source, state in enumerate(states):
            self.states[source] = state
            if state >= SUCCEEDED:
                self.todo -= 1
                for target, vote in self._votes_of(source, NodeState(state)):
                    self._count(target, vote)

    def released(self) -> Iterator[int]:
        """Yield the nodes that may have started and have not ended."""
        return (index for index, state in enumerate(self.states) if state == READY)

    def outcome(self) -> NodeState:
        """Return how the deciding nodes ended, taken together."""
        states = {NodeState(self.states[index]) for index in self.shape.deciding}
        if NodeState.CANCELLED in states:
            return NodeState.CANCELLED
        return NodeState.FAILED if states & _BAD else NodeState.SUCCEEDED

    def cancel(self) -> None:
        """End every node that has not ended as cancelled."""
        for index, state in enumerate(self.states):
            if state < SUCCEEDED:
                self.states[index] = CANCELLED
        self.todo = 0


_COLUMN = {
    NodeState.FAILED: 0,
    NodeState.CANCELLED: 0,
    NodeState.SKIPPED: 1,
    NodeState.UPSTREAM_FAILED: 2,
}


class ItemsFrame(Frame):
    """The items of one map: a range and a bitmap, whatever their number.

    Attributes:
        window: How many may be open at once.
        next: The first item that was never released.
        running: How many are open.
        done: A bit per item, set where it succeeded.
        bad: How the others ended.
        is_cancelled: Whether all that had not ended was cancelled.
    """

    __slots__ = ("bad", "done", "is_cancelled", "next", "running", "window")

    def __init__(self, path: str, parent: Frame, index: int, size: int, window: int) -> None:
        """Start with nothing released; a window of 0 means the default."""
        super().__init__(path, parent, index, size)
        self.window = window or DEFAULT_WINDOW
        self.next = 0
        self.running = 0
        self.done = bytearray((size + 7) // 8)
        self.bad: dict[int, NodeState] = {}
        self.is_cancelled = False

    def name(self, index: int) -> str:
        """Return an item's path."""
        return f"{self.path}[{index}]"

    def find(self, rest: str) -> tuple[int | None, str]:
        """Return the item that `rest` begins with (`[3]`), and what follows it."""
        match = _ITEM.match(rest)
        if match is None or int(match[1]) >= self.size:
            return None, rest
        return int(match[1]), rest[match.end() :]

    def node(self, index: int) -> Node:  # noqa: ARG002  the items are alike
        """Return what stands at a place: for each item the mapped node."""
        parent = self.parent
        if parent is None:
            message = f"items need a mapped node above them, and {self.path!r} has none"
            raise LookupError(message)
        return parent.node(self.index)

    def state(self, index: int) -> int:
        """Return an item's state."""
        if self.done[index >> 3] >> (index & 7) & 1:
            return SUCCEEDED
        if index in self.bad:
            return self.bad[index]
        if self.is_cancelled:
            return CANCELLED
        return READY if index < self.next else PENDING

    def open(self) -> list[int]:
        """Release items until the window is full."""
        fresh = []
        while self.running < self.window and self.next < self.size:
            if self.state(self.next) < SUCCEEDED:
                fresh.append(self.next)
                self.running += 1
            self.next += 1
        return fresh

    def advance(self, index: int) -> list[int] | None:
        """Take an item's success, and release the next."""
        if self.state(index) >= SUCCEEDED or index in self.children:
            return None
        return self._succeed(index)

    def end(self, index: int, state: NodeState, label: str | None) -> Ends:  # noqa: ARG002  items are no routers
        """Take an item's end, and release the next."""
        if self.state(index) >= SUCCEEDED:
            return [], []
        if state is NodeState.SUCCEEDED:
            return self._succeed(index), []
        self.bad[index] = state
        return self._release_next(index), []

    def _succeed(self, index: int) -> list[int]:
        self.done[index >> 3] |= 1 << (index & 7)
        return self._release_next(index)

    def _release_next(self, index: int) -> list[int]:
        self.todo -= 1
        if index < self.next:
            self.running -= 1
        return self.open() if self.next < self.size else []

    def restore(self, upto: int, done: bytes, bad: dict[int, NodeState]) -> None:
        """Put back what a blob holds; the counters follow from it."""
        self.next = upto
        self.done[:] = done
        self.bad = dict(bad)
        self.todo = self.size - int.from_bytes(done, "little").bit_count() - len(bad)
        self.running = sum(1 for _ in self.released())

    def released(self) -> Iterator[int]:
        """Yield the items that may have started and have not ended."""
        for first in range(0, self.next, 8):
            if self.done[first >> 3] != _ALL_DONE:
                items = range(first, min(first + 8, self.next))
                yield from (index for index in items if self.state(index) == READY)

    def outcome(self) -> NodeState:
        """Return `failed` where an item failed, else `succeeded`; a skipped item does not fail its map."""
        states = set(self.bad.values())
        if self.is_cancelled or NodeState.CANCELLED in states:
            return NodeState.CANCELLED
        return NodeState.FAILED if states & _BAD else NodeState.SUCCEEDED

    def cancel(self) -> None:
        """End every item that has not ended as cancelled."""
        self.is_cancelled = self.is_cancelled or self.todo > 0
        self.next = self.size
        self.todo = 0
        self.running = 0


_ALL_DONE = 0xFF
_ITEM = re.compile(r"\[(0|[1-9][0-9]{0,17})\]")
