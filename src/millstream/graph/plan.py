"""The state of one job's graph, and what may run next: (plan, fact) -> (plan, steps).

A plan is a tree of frames. The root frame stands for the job's graph; `expand` puts a further frame in the place of a
node while the job runs: the items of a map, the turns of a loop, a sub-flow, the calls of a conducting flow. A node is
addressed by its frame and its index there, or by its path (`report/join`, `multiply[3]`, `agent#0/think`).

Facts may arrive in any order that causality allows, and twice; the same facts always end in the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from millstream.errors import UnknownNameError
from millstream.graph.frame import Frame, GraphFrame, ItemsFrame
from millstream.graph.shape import Shape
from millstream.model.job import JobState, NodeState

Place = tuple[Frame, int]
"""A node: the frame it is in, and its index there."""


Settle = Callable[[Frame], NodeState]
"""Decides how the node ends that a frame stands for."""


def by_outcome(frame: Frame) -> NodeState:
    """End the node as its frame ended."""
    return frame.outcome()


class Steps:
    """What follows from facts.

    Attributes:
        ready: Nodes that may start now.
        ended: Nodes that ended without running, each with how.
        closed: Frames whose nodes have all ended, inner ones first. Where the node that a frame stands for ends with
            it, that has happened (see `settle`).
    """

    __slots__ = ("closed", "ended", "ready")

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.ready: list[Place] = []
        self.ended: list[tuple[Frame, int, NodeState]] = []
        self.closed: list[Frame] = []


class Plan:
    """The plan of one job.

    Example:
        >>> from millstream.model.graph import Graph, Node, After
        >>> plan = Plan(Shape(Graph(nodes=(Node(id="a", task="t"), Node(id="b", task="t", after=(After(0),))))))
        >>> [frame.name(i) for frame, i in plan.start().ready]
        ['a']
        >>> [frame.name(i) for frame, i in plan.end("a", NodeState.SUCCEEDED).ready]
        ['b']
    """

    __slots__ = ("_settle", "_settled", "frames", "root")

    def __init__(self, shape: Shape, settle: Settle = by_outcome) -> None:
        """Take the compiled graph; nothing has happened yet.

        Args:
            shape: The compiled graph.
            settle: Decides how the node (or the job) ends that a frame stands for, when all of the frame has ended.
        """
        self.root = GraphFrame("", None, 0, shape)
        self.frames: dict[str, Frame] = {"": self.root}
        self._settle = settle
        self._settled: NodeState | None = None

    @property
    def is_done(self) -> bool:
        """Whether every node has ended."""
        return not self.root.todo

    def outcome(self) -> JobState:
        """Return how the job ends, once `is_done`: failed where a node that decides failed (see `Shape.deciding`)."""
        return _JOB_STATES.get(self._settled or self.root.outcome(), JobState.SUCCEEDED)

    # ---------------------------------------------------------------------------------------- facts, by place
    def start(self) -> Steps:
        """Return the root frame's first steps."""
        return self._open(self.root)

    def ended(self, frame: Frame, index: int, state: NodeState, label: str | None = None) -> Steps:
        """Take the fact that a node ended; `label` is what a router chose.

        What is known already changes nothing.
        """
        steps = Steps()
        if frame.state(index) < NodeState.SUCCEEDED:
            self._end(frame, index, state, label, steps)
        return steps

    def expand(
        self, frame: Frame, index: int, key: str, inside: Shape | int, content: Any = None
    ) -> tuple[Frame, Steps]:
        """Put a frame in the place of a node that is running.

        Args:
            frame: The frame that the node is in.
            index: The node.
            key: Which of the node's frames: "" for a sub-flow and for a map's items, `[turn]` for a loop's turn,
                `#call` for a recorded call.
            inside: A compiled graph, or the number of a map's items.
            content: What the driver keeps with the frame (see `Frame.content`).

        Returns:
            The frame (the one that is there, when this is known already), and its first steps. Where the node has
            ended already, all of the frame is cancelled and the plan does not keep it.
        """
        path = frame.name(index) + key
        known = self.frames.get(path)
        if known is not None:
            return known, Steps()
        child: Frame
        if isinstance(inside, int):
            node = frame.node(index)
            child = ItemsFrame(path, frame, index, inside, node.map.in_flight if node.map else 0)
        else:
            child = GraphFrame(path, frame, index, inside)
        child.content = content
        if frame.state(index) >= NodeState.SUCCEEDED:
            self._drop(frame, index)
            return child, Steps()
        self.frames[path] = child
        return child, self._open(child)

    def close(self, frame: Frame) -> Steps:
        """Take the fact that nothing is left to do in a frame (its `todo` is 0), as whoever ends nodes itself must."""
        steps = Steps()
        self._close(frame, steps)
        return steps

    def cancel(self) -> None:
        """End every node that has not ended as cancelled; nothing is ready afterwards."""
        for frame in self.frames.values():
            frame.cancel()
        for index in list(self.root.children):
            self._drop(self.root, index)

    # ----------------------------------------------------------------------------------------- facts, by path
    def end(self, path: str, state: NodeState, label: str | None = None) -> Steps:
        """Take the fact that the node at `path` ended.

        Raises:
            UnknownNameError: There is no such node.
        """
        place = self.find(path)
        return Steps() if place is None else self.ended(*place, state, label)

    def find(self, path: str) -> Place | None:
        """Return the node at `path`; `None` when it was part of something that has ended.

        Raises:
            UnknownNameError: There is no such node.
        """
        for split in range(len(path), -1, -1):
            frame = self.frames.get(path[:split])
            if frame is None:
                continue
            index, rest = frame.find(path[split:])
            if index is not None and not rest:
                return frame, index
            if index is not None and frame.state(index) >= NodeState.SUCCEEDED:
                return None
        message = f"the plan has no node {path!r}"
        raise UnknownNameError(message)

    def open_nodes(self) -> Iterator[Place]:
        """Yield the nodes that were released and have not ended, in the order of frames and nodes."""
        for path in sorted(self.frames):
            frame = self.frames[path]
            yield from ((frame, index) for index in frame.released())

    def forget(self, frame: Frame, index: int) -> None:
        """Drop the frames in the place of a node that goes on without them; what comes late from inside is ignored."""
        self._drop(frame, index)

    # ------------------------------------------------------------------------------------------------ inside
    def _open(self, frame: Frame) -> Steps:
        steps = Steps()
        steps.ready.extend((frame, index) for index in frame.open())
        if not frame.todo:
            self._close(frame, steps)
        return steps

    def _end(self, frame: Frame, index: int, state: NodeState, label: str | None, steps: Steps) -> None:
        ready, ended = frame.end(index, state, label)
        steps.ready.extend((frame, i) for i in ready)
        steps.ended.extend((frame, i, how) for i, how in ended)
        for i, _ in ((index, state), *ended):
            self._drop(frame, i)
        if not frame.todo:
            self._close(frame, steps)

    def _close(self, frame: Frame, steps: Steps) -> None:
        """Close a frame; where the node it stands for is over with it, end that too, and so on upwards."""
        steps.closed.append(frame)
        parent = frame.parent
        if parent is None:
            self._settled, self._settle = self._settle(frame), by_outcome  # the plan lets go of whoever drives it
            return
        if not frame.ends_its_node or parent.state(frame.index) >= NodeState.SUCCEEDED:
            return
        self._end(parent, frame.index, self._settle(frame), None, steps)

    def _drop(self, frame: Frame, index: int) -> None:
        """Forget the frames in the place of a node that ended: its own state says all that later facts need.

        Whoever still holds such a frame finds all of it ended, so that what comes late from inside changes nothing.
        """
        children = frame.children.pop(index, None)
        while children:
            child = children.pop()
            self.frames.pop(child.path, None)
            if child.todo:
                child.cancel()
            children.extend(grandchild for some in child.children.values() for grandchild in some)


_JOB_STATES = {NodeState.CANCELLED: JobState.CANCELLED, NodeState.FAILED: JobState.FAILED}


def describe(plan: Plan) -> dict[str, Any]:
    """Return every open frame's node states by path, for people and for tests."""
    return {
        frame.name(index): NodeState(frame.state(index)).label
        for frame in plan.frames.values()
        for index in range(frame.size)
    }
