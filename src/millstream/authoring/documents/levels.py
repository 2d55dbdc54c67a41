"""One graph of a drawing of a document: the document's own, or the body of a loop, which gets all values through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from msgspec.structs import replace

from millstream.model.graph import After, Arg, Graph, Node, Packed, Result, Slot, predecessors


class Value(NamedTuple):
    """What an output gives.

    Attributes:
        level: The graph that it is in.
        arg: How nodes of that graph take it.
    """

    level: Level
    arg: Arg


class Level:
    """A graph that is being drawn.

    Args:
        outer: The graph around that of a loop's body.
        state: Of a loop's body: what the first turn begins with, as an argument in the graph around it.

    Attributes:
        nodes: Its nodes so far.
        values: Of the document's own graph, the values of its slots so far.
        args: Of a loop's body, the arguments of the loop so far: they fill its slots.
    """

    def __init__(self, outer: Level | None = None, state: Arg | None = None) -> None:
        """Start without nodes."""
        self._outer = outer
        self.nodes: list[Node] = []
        self.values: list[Any] = []
        self.args: list[Arg] = [] if state is None else [state]
        self._taken: dict[Arg, Slot] = {}
        self._gate: tuple[After, ...] = ()

    @property
    def state(self) -> Value:
        """Of a loop's body: what the turn begins with."""
        return Value(self, Slot(0))

    def add(self, node: Node) -> Result:
        """Add a node, and return its result."""
        if self._gate and not predecessors(node):
            node = replace(node, after=self._gate)
        self.nodes.append(node)
        return Result(len(self.nodes) - 1)

    @contextmanager
    def behind(self, nodes: Sequence[int]) -> Iterator[None]:
        """Let nodes that are added meanwhile, and wait for no others, wait for these; without any, as outside."""
        before = self._gate
        self._gate = tuple(After(node) for node in dict.fromkeys(nodes)) or before
        try:
            yield
        finally:
            self._gate = before

    def bind(self, value: Any) -> tuple[Slot, int]:
        """Return the argument for a plain value, and the index of its slot in the document's own graph."""
        if self._outer is None:
            self.values.append(value)
            return Slot(len(self.values) - 1), len(self.values) - 1
        slot, index = self._outer.bind(value)
        return self._through(slot), index

    def take(self, value: Value) -> Arg:
        """Return the argument for an output's value, which is in this graph or in one around it."""
        if value.level is self or self._outer is None:
            return value.arg
        return self._through(self._outer.take(value))

    def graph(self, result: Arg) -> Graph:
        """Return the finished graph."""
        return Graph(tuple(self.nodes), len(self.values if self._outer is None else self.args), result)

    def _through(self, arg: Arg) -> Slot:
        """Return the slot of a loop's body for an argument of the loop."""
        known = self._taken.get(arg)
        if known is None:
            self.args.append(arg)
            known = self._taken[arg] = Slot(len(self.args) - 1)
        return known


def turn_of(following: Arg, done: Arg) -> Packed:
    """Return the result of a loop's body: the next state, as a list, and whether that was the last turn."""
    return Packed("list", (Packed("list", (following,)), done))
