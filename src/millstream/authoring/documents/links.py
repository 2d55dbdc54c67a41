"""What the edges of a document may be: from where to where, of which types, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from millstream.authoring.documents.document import DocumentEdge, DocumentNode
from millstream.authoring.documents.nodes import no_port, port_problem
from millstream.authoring.documents.plain import Problem, shown
from millstream.authoring.documents.scopes import inside, lifted, ordered
from millstream.model.component import Component, Port, fits

_SHOWN: Final = 5


class Links:
    """The edges of one document.

    Args:
        places: The place of every node that has an id, also where it could not be read.
        nodes: The nodes that could be read.

    Attributes:
        parents: Of each node that could be read, the loop that it is in.
        edges: The edges so far, in order.
        order: The ids of the nodes, each after those that lead to it; known after `problems`.
    """

    def __init__(self, places: Mapping[str, str], nodes: Mapping[str, DocumentNode]) -> None:
        """Start without edges."""
        self._places = places
        self._nodes = nodes
        self.parents: dict[str, str | None] = {}
        self.edges: dict[DocumentEdge, None] = {}
        self.order: list[str] = []
        self._ended: set[tuple[str, str]] = set()
        self._missed: set[tuple[str, str | None]] = set()

    def miss(self, target: Any, handle: Any) -> None:
        """Note where an edge was meant to end with which something is wrong: nothing more need be said of that input.

        Where the input is not known either, nothing is said of any input of the node.
        """
        if isinstance(target, str) and (node := self._nodes.get(target)) is not None:
            is_known = isinstance(handle, str) and node.component.input(handle) is not None
            self._missed.add((target, handle if is_known else None))

    def add(self, edge: DocumentEdge, where: str) -> Iterator[Problem]:
        """Take an edge, and yield what is wrong with it."""
        found = list(self._added(edge, where))
        if found or edge.source not in self._nodes:
            self.miss(edge.target, edge.input)
        yield from found

    def _added(self, edge: DocumentEdge, where: str) -> Iterator[Problem]:
        ends = (("source", edge.source), ("target", edge.target))
        yield from (
            (f"{where}.{side}", f"there is no node {shown(end)}") for side, end in ends if end not in self._places
        )
        if edge.source not in self._nodes or edge.target not in self._nodes:
            return
        source, target = self._nodes[edge.source].component, self._nodes[edge.target].component
        given, wanted = source.output(edge.output), target.input(edge.input)
        if given is None:
            yield f"{where}.sourceHandle", no_port(source, "output", source.outputs, edge.output)
        if wanted is None:
            yield f"{where}.targetHandle", no_port(target, "input", target.inputs, edge.input)
        if given is None or wanted is None:
            return
        if what := self._input_problem(edge, target, wanted):
            yield f"{where}.targetHandle", what
        elif not fits(given.type, wanted.type):
            yield where, f"it leads from {given.name}, which is {given.type}, to {wanted.name}, which is {wanted.type}"
        elif what := self._sight_problem(edge, given, wanted):
            yield where, what
        else:
            self._ended.add((edge.target, edge.input))
            self.edges[edge] = None

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with all edges together, after the last one was taken."""
        for node in self._nodes.values():
            for port in node.component.inputs:
                if port.is_required and not self._has_value(node, port):
                    needs = "an edge" if port.is_inner else "a value" if port.is_fixed else "a value or an edge"
                    yield self._places[node.id], f"its input {port.name} needs {needs}"
        pairs = [lifted(self.parents, edge.source, edge.target) for edge in self.edges]
        self.order, circular = ordered(self._nodes, [pair for pair in pairs if pair is not None])
        if circular:
            names = ", ".join(circular[:_SHOWN]) + (", …" if len(circular) > _SHOWN else "")
            yield "edges", f"the nodes {names} wait for each other; a circle is written as a loop"

    # ----------------------------------------------------------------------------------------------------- one edge
    def _input_problem(self, edge: DocumentEdge, component: Component, port: Port) -> str | None:
        """Return why an edge cannot end at an input."""
        if port.is_fixed:
            return f"the input {port.name} is set in the document, and takes no edge"
        if edge in self.edges:
            return "this edge is there already"
        if not port.is_many and (edge.target, edge.input) in self._ended:
            return f"the input {shown(port.name)} takes one edge, and has one already"
        return None if port.is_inner else port_problem(component, port)

    def _sight_problem(self, edge: DocumentEdge, given: Port, wanted: Port) -> str | None:
        """Return why a node cannot see what an edge would bring it."""
        here = inside(self.parents, edge.target if wanted.is_inner else self.parents[edge.target])
        if given.is_inner:
            return None if edge.source in here else f"the output {given.name} of a loop is for the nodes inside it"
        if edge.source == edge.target and not wanted.is_inner:
            return "a node cannot wait for itself; what comes again is written as a loop"
        if self.parents[edge.source] not in here:
            return f"{edge.source} is in a loop; what leaves that is the loop's own output"
        if edge.source in here:
            return f"the output {given.name} of a loop is there when the loop has ended, and not inside it"
        return None

    def _has_value(self, node: DocumentNode, port: Port) -> bool:
        ends = {(node.id, port.name), (node.id, None)}
        is_linked = (node.id, port.name) in self._ended or not ends.isdisjoint(self._missed)
        return is_linked or port.name in node.values or port.source is not None
