"""The vertices of a job: what people see as the nodes of its flow, as its durable events tell of them.

What grows in a node's place while the job runs (the items of a map, the turns of a loop, a sub-flow, the calls of a
conducting flow) is part of its vertex. In a job of a flow document so are the nodes that were made of one node of the
document, `<id>` and `<id>.<something>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from millstream.graph.frame import GraphFrame
from millstream.graph.shape import Shape
from millstream.model.graph import Node, arguments, results_in
from millstream.model.job import NodeState

_NODE = re.compile(r"[^/\[#]+")


class Closed(NamedTuple):
    """The end of a vertex, and what it leads to.

    Attributes:
        vertex: Its id.
        is_valid: Whether nothing of it failed.
        next: The vertices that may start now.
        inactivated: The vertices that will not run any more.
        seconds: How long it took, from when it could start.
    """

    vertex: str
    is_valid: bool
    next: list[str]
    inactivated: list[str]
    seconds: float


class _Vertex:
    """What is known of one vertex."""

    __slots__ = ("has_run", "id", "inactivated", "is_closed", "left", "next", "nodes", "since")

    def __init__(self, name: str) -> None:
        self.id = name
        self.nodes: list[int] = []
        self.left = 0
        self.has_run = self.is_closed = False
        self.since: float | None = None
        self.next: dict[str, None] = {}
        self.inactivated: dict[str, None] = {}


class Vertices:
    """Follows the vertices of one job, and nothing below them.

    Args:
        shape: The job's compiled graph.
        is_document: Whether the graph was made of a flow document.

    Example:
        >>> from millstream.model.graph import After, Graph
        >>> graph = Graph((Node("a", task="t"), Node("b", task="t", after=(After(0),))))
        >>> vertices = Vertices(Shape(graph), is_document=False)
        >>> vertices.begin(5.0)
        ['a']
        >>> vertices.end("a", NodeState.SUCCEEDED, 7.5)
        [Closed(vertex='a', is_valid=True, next=['b'], inactivated=[], seconds=2.5)]
    """

    def __init__(self, shape: Shape, *, is_document: bool) -> None:
        """Let nothing have happened."""
        self._nodes = shape.graph.nodes
        self._index_of = shape.index_of
        self._frame = GraphFrame("", None, 0, shape)
        self._labels: dict[int, str] = {}
        self._vertices: dict[str, _Vertex] = {}
        self._of: list[_Vertex] = []
        for index, node in enumerate(self._nodes):
            name = node.id.partition(".")[0] if is_document else node.id
            vertex = self._vertices.get(name) or self._vertices.setdefault(name, _Vertex(name))
            vertex.nodes.append(index)
            vertex.left += 1
            self._of.append(vertex)

    @property
    def ids(self) -> list[str]:
        """The ids of all vertices, in the order of the graph."""
        return list(self._vertices)

    @property
    def running(self) -> list[Node]:
        """The nodes that may have started and have not ended."""
        return [self._nodes[index] for index in self._frame.released()]

    def begin(self, at: float) -> list[str]:
        """Take the fact that the job was handed in, and return the vertices that may start."""
        first = self._open(self._frame.open(), at)
        return list(first)

    def find(self, path: str) -> tuple[str, str] | None:
        """Return the vertex that a node is part of, and its node there; `None` where the job has none of that name."""
        match = _NODE.match(path)
        index = None if match is None else self._index_of.get(match[0])
        return None if index is None else (self._of[index].id, self._nodes[index].id)

    def main(self, vertex: str) -> Node:
        """Return the node that a vertex is, or the first one of those that it was made into."""
        known = self._index_of.get(vertex)
        return self._nodes[self._vertices[vertex].nodes[0] if known is None else known]

    def route(self, node: str, label: str) -> None:
        """Take the fact that a router chose a label; its end follows."""
        self._labels[self._index_of[node]] = label

    def end(self, node: str, state: NodeState, at: float) -> list[Closed]:
        """Take the fact that a node ended, and return the vertices that end with it; none that has not run."""
        index = self._index_of[node]
        if self._frame.state(index) >= NodeState.SUCCEEDED:
            return []
        mine = self._of[index]
        ready, ended = self._frame.end(index, state, self._labels.get(index))
        mine.next.update({name: None for name in self._open(ready, at) if name != mine.id})
        mine.has_run = True
        mine.left -= 1
        over = [mine] if not mine.left or state is NodeState.FAILED else []
        for other in (self._of[target] for target in sorted(target for target, _ in ended)):
            other.left -= 1
            if not other.left and other.has_run:
                over.append(other)
            elif not other.left:
                mine.inactivated[other.id] = None
        is_valid = state is not NodeState.FAILED
        return [self._close(vertex, at, is_valid=is_valid) for vertex in over if not vertex.is_closed]

    def followers(self, vertex: str) -> list[str]:
        """Return the vertices that take something of a vertex's result, in the order of the graph."""
        mine = set(self._vertices[vertex].nodes)
        return [
            self._of[index].id
            for index, node in enumerate(self._nodes)
            if index not in mine and not mine.isdisjoint(i for arg in arguments(node) for i in results_in(arg))
        ]

    def _open(self, ready: Iterable[int], at: float) -> dict[str, None]:
        """Take the fact that nodes may start, and return their vertices of which none could before."""
        fresh: dict[str, None] = {}
        for index in ready:
            vertex = self._of[index]
            if vertex.since is None:
                vertex.since = at
                fresh[vertex.id] = None
        return fresh

    @staticmethod
    def _close(vertex: _Vertex, at: float, *, is_valid: bool) -> Closed:
        vertex.is_closed = True
        since = at if vertex.since is None else vertex.since
        return Closed(vertex.id, is_valid, list(vertex.next), list(vertex.inactivated), max(0.0, at - since))
