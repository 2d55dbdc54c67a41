"""The vertices of a job: the nodes of its graph's top level, as its durable events tell of them.

What grows in a vertex's place while the job runs (the items of a map, the turns of a loop, a sub-flow, the calls of a
conducting flow) is part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from millstream.graph.frame import GraphFrame
from millstream.graph.shape import Shape
from millstream.model.graph import Node, arguments, results_in
from millstream.model.job import NodeState

_VERTEX = re.compile(r"[^/\[#]+")


class Turn(NamedTuple):
    """What the end of a vertex leads to.

    Attributes:
        next: The vertices that may start now.
        inactivated: The vertices that will not run any more, in order.
        seconds: How long it took, from when it could start.
    """

    next: list[str]
    inactivated: list[str]
    seconds: float


class Vertices:
    """Follows the vertices of one job, and nothing below them.

    Args:
        shape: The job's compiled graph.

    Example:
        >>> from millstream.model.graph import After, Graph
        >>> vertices = Vertices(Shape(Graph((Node("a", task="t"), Node("b", task="t", after=(After(0),))))))
        >>> vertices.begin(5.0)
        ['a']
        >>> vertices.end("a", NodeState.SUCCEEDED, 7.5)
        Turn(next=['b'], inactivated=[], seconds=2.5)
    """

    def __init__(self, shape: Shape) -> None:
        """Let nothing have happened."""
        self._nodes = shape.graph.nodes
        self._index_of = shape.index_of
        self._frame = GraphFrame("", None, 0, shape)
        self._labels: dict[int, str] = {}
        self._since: dict[int, float] = {}
        self._begun_at = 0.0

    @property
    def ids(self) -> list[str]:
        """The ids of all vertices, in the order of the graph."""
        return [node.id for node in self._nodes]

    @property
    def running(self) -> list[str]:
        """The ids of those that may have started and have not ended."""
        return self._names(self._frame.released())

    def begin(self, at: float) -> list[str]:
        """Take the fact that the job was handed in, and return the vertices that may start."""
        self._begun_at = at
        return self._names(self._frame.open())

    def node(self, vertex: str) -> Node:
        """Return what stands at a vertex."""
        return self._nodes[self._index_of[vertex]]

    def find(self, path: str) -> str | None:
        """Return the vertex that a node is, or is part of; `None` where the job has none of that name."""
        match = _VERTEX.match(path)
        return match[0] if match is not None and match[0] in self._index_of else None

    def has_ended(self, vertex: str) -> bool:
        """Whether it is known how a vertex ended."""
        return self._frame.state(self._index_of[vertex]) >= NodeState.SUCCEEDED

    def route(self, vertex: str, label: str) -> None:
        """Take the fact that a router chose a label; its end follows."""
        self._labels[self._index_of[vertex]] = label

    def end(self, vertex: str, state: NodeState, at: float) -> Turn:
        """Take the fact that a vertex ended, and return what that leads to."""
        index = self._index_of[vertex]
        ready, ended = self._frame.end(index, state, self._labels.get(index))
        self._since.update(dict.fromkeys(ready, at))
        lost = sorted(target for target, _ in ended)
        return Turn(self._names(ready), self._names(lost), max(0.0, at - self._since.get(index, self._begun_at)))

    def followers(self, vertex: str) -> list[str]:
        """Return the vertices that take something of a vertex's result, in the order of the graph."""
        index = self._index_of[vertex]
        return [node.id for node in self._nodes if any(index in results_in(arg) for arg in arguments(node))]

    def _names(self, indexes: Iterable[int]) -> list[str]:
        return [self._nodes[index].id for index in indexes]
