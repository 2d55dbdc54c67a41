"""Draws a document as the one graph: its nodes and edges as nodes of the engine, its values as slots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.document import Document, DocumentEdge, DocumentNode
from millstream.authoring.documents.levels import Level, Value, turn_of
from millstream.authoring.members import OWN
from millstream.authoring.registry import Definition
from millstream.engine.control import label_of
from millstream.engine.program import COLLECTED, Work
from millstream.model.component import JobInput, Port
from millstream.model.graph import After, Arg, Graph, Keyed, Node, NodeKind, Packed, Result, results_in

Place = tuple[str, str]
"""An input of a node: the node's id, behind those of the sub-flows around it (`outer.inner`), and the input's name."""

_ANY_OF: Final = "none_failed_min_one_success"


class Fill(NamedTuple):
    """A slot that an input of the job fills.

    Attributes:
        slot: Its index.
        port: The input of the node.
        input_type: For which `input_type` the job's `input_value` does.
    """

    slot: int
    port: Port
    input_type: str


class Compiled(NamedTuple):
    """A document's graph, with what is known of its slots.

    Attributes:
        graph: The graph.
        values: The values of its slots, as far as a job does not say otherwise.
        works: The tasks and flows that its nodes name.
        slots: The slot of each input that has one.
        fills: The slots that inputs of the job fill.
        nodes: The nodes by their whole ids, those of sub-flows included.
        linked: The inputs that take what an edge brings.
    """

    graph: Graph
    values: tuple[Any, ...]
    works: Mapping[str, Work]
    slots: Mapping[Place, int]
    fills: Mapping[JobInput, Sequence[Fill]]
    nodes: Mapping[str, DocumentNode]
    linked: Collection[Place]


def compiled(
    document: Document, catalogue: Catalogue, outputs: Sequence[DocumentNode], extra: Collection[Place] = ()
) -> Compiled:
    """Return the graph of a document, whose result is `{"outputs": {node id: value}}`.

    Args:
        document: The document.
        catalogue: Has the code of its nodes.
        outputs: The nodes whose values are the result's.
        extra: Inputs that get a slot though the document sets nothing there.
    """
    drawing = _Drawing(catalogue, extra)
    top = Level()
    inner = _Inner(drawing, document, "", None)
    inner.draw(top, None)
    result = Keyed(("outputs",), (inner.collect(outputs),))
    return Compiled(
        top.graph(result),
        tuple(top.values),
        drawing.works,
        drawing.slots,
        drawing.fills,
        drawing.nodes,
        drawing.linked,
    )


class _Drawing:
    """What all documents that become one graph share; the attributes are those of `Compiled`."""

    def __init__(self, catalogue: Catalogue, extra: Collection[Place]) -> None:
        self.catalogue = catalogue
        self.extra = extra
        self.works: dict[str, Work] = {}
        self.slots: dict[Place, int] = {}
        self.fills: dict[JobInput, list[Fill]] = {}
        self.nodes: dict[str, DocumentNode] = {}
        self.linked: set[Place] = set()


class _Inner:
    """Draws one document: the whole, or a sub-flow's.

    Args:
        drawing: What it is a part of.
        document: The document.
        prefix: What stands before the ids of its nodes.
        given: What its inputs take in place of the job's `input_value`.
    """

    def __init__(self, drawing: _Drawing, document: Document, prefix: str, given: Value | None) -> None:
        self._all = drawing
        self._document = document
        self._prefix = prefix
        self._given = given
        self._results: dict[str, Result] = {}
        self._outputs: dict[Place, Value] = {}
        self._into: dict[str, dict[str, list[DocumentEdge]]] = {}
        self._used: set[Place] = set()
        self._within: dict[str | None, list[DocumentNode]] = {}
        for edge in document.edges:
            self._into.setdefault(edge.target, {}).setdefault(edge.input, []).append(edge)
            self._used.add((edge.source, edge.output))
        for node_id in document.order:
            node = document.nodes[node_id]
            self._within.setdefault(node.parent, []).append(node)

    def draw(self, level: Level, loop: str | None) -> None:
        """Draw the nodes that are in a loop, or at the top."""
        for node in self._within.get(loop, ()):
            self._all.nodes[self._prefix + node.id] = node
            match node.component.kind:
                case "task" | "flow" | "router":
                    self._draw_work(level, node)
                case "merge":
                    args = self._all_of(level, node, node.component.inputs[0])
                    self._put(level, node, "merge", args=args, join=_ANY_OF)
                case "wait":
                    self._draw_wait(level, node)
                case "approval":
                    self._put(level, node, "approval", args=(self._needed(level, node, node.component.inputs[0]),))
                case "loop":
                    self._draw_loop(level, node)
                case "subflow":
                    self._draw_subflow(level, node)

    def collect(self, outputs: Sequence[DocumentNode]) -> Keyed:
        """Return the values of nodes at the top by their ids."""
        return Keyed(tuple(node.id for node in outputs), tuple(self._results[node.id] for node in outputs))

    # ------------------------------------------------------------------------------------------------------ kinds
    def _draw_work(self, level: Level, node: DocumentNode) -> None:
        component = node.component
        work = self._all.catalogue.work(component)
        self._all.works[work.name] = work
        named = {port.name: self._argument(level, node, port) for port in self._inputs(node)}
        args, kwargs = _call(work, {name: arg for name, arg in named.items() if arg is not None})
        by_name = tuple(sorted(kwargs.items()))
        kind: NodeKind = "flow" if component.kind == "flow" else "task"
        result = self._put(level, node, kind, task=work.name, args=args, kwargs=by_name, policy=node.policy)
        if component.kind == "router":
            self._draw_ways(level, node, result)

    def _draw_ways(self, level: Level, node: DocumentNode, result: Result) -> None:
        """Draw what chooses among the outputs of a router, and of each that is used a node that has its value."""
        used = [port for port in node.component.outputs if (node.id, port.name) in self._used]
        if not used:
            return
        name = f"{self._prefix}{node.id}.way"
        labels = tuple(label_of(port.name) for port in node.component.outputs)
        chooser = level.add(Node(name, "router", args=(Result(result.node, (0,)),), labels=labels))
        for port in used:
            chosen = After(chooser.node, label_of(port.name))
            way = Node(f"{name}.{port.name}", "merge", args=(Result(result.node, (1,)),), after=(chosen,))
            self._outputs[node.id, port.name] = Value(level, level.add(way))

    def _draw_wait(self, level: Level, node: DocumentNode) -> None:
        value, seconds = (self._needed(level, node, port) for port in node.component.inputs)
        after = tuple(After(index) for index in dict.fromkeys(results_in(value)))
        sleep = level.add(Node(f"{self._prefix}{node.id}.sleep", "sleep", args=(seconds,), after=after))
        self._put(level, node, "merge", args=(value,), after=(After(sleep.node),))

    def _draw_loop(self, level: Level, node: DocumentNode) -> None:
        first, following, done, turns = node.component.inputs
        turn = Level(level, self._needed(level, node, first))
        self._outputs[node.id, node.component.outputs[0].name] = turn.state
        self.draw(turn, node.id)
        last = turn_of(self._needed(turn, node, following), self._needed(turn, node, done))
        most = node.values.get(turns.name, turns.default)
        self._put(level, node, "loop", args=tuple(turn.args), body=turn.graph(last), max_turns=most)

    def _draw_subflow(self, level: Level, node: DocumentNode) -> None:
        document = node.document
        if document is None:
            raise LookupError(f"{node.id} has no document")
        arg = self._argument(level, node, node.component.inputs[1])
        given = None if arg is None else Value(level, arg)
        inner = _Inner(self._all, document, f"{self._prefix}{node.id}.", given)
        with level.behind(results_in(arg)):
            inner.draw(level, None)
            outputs = document.outputs
            self._all.works[COLLECTED] = OWN[COLLECTED]
            args = (inner.collect(outputs),)
            result = self._put(level, node, "task", task=COLLECTED, args=args, join=_ANY_OF)
        first = Result(result.node, (outputs[0].id,)) if outputs else level.bind(None)[0]
        self._outputs[node.id, node.component.outputs[0].name] = Value(level, first)

    # ---------------------------------------------------------------------------------------------------- arguments
    def _inputs(self, node: DocumentNode) -> list[Port]:
        """Return the inputs of a node, those of an open component included that something is set at or leads to."""
        component, whole = node.component, self._prefix + node.id
        if not component.is_open:
            return list(component.inputs)
        linked = self._into.get(node.id, ())
        extra = (name for target, name in self._all.extra if target == whole)
        names = dict.fromkeys((*(port.name for port in component.inputs), *node.values, *linked, *sorted(extra)))
        return [port for name in names if (port := component.input(name)) is not None]

    def _put(self, level: Level, node: DocumentNode, kind: NodeKind, **fields: Any) -> Result:
        """Add the node that has the id of a document's node, and whose result its outputs are parts of."""
        result = level.add(Node(self._prefix + node.id, kind, **fields))
        self._results[node.id] = result
        for port in node.component.outputs:
            self._outputs.setdefault((node.id, port.name), Value(level, Result(result.node, port.path)))
        return result

    def _edges(self, node: DocumentNode, port: Port) -> Sequence[DocumentEdge]:
        return self._into.get(node.id, {}).get(port.name, ())

    def _needed(self, level: Level, node: DocumentNode, port: Port) -> Arg:
        arg = self._argument(level, node, port)
        return level.bind(None)[0] if arg is None else arg

    def _all_of(self, level: Level, node: DocumentNode, port: Port) -> tuple[Arg, ...]:
        """Return what each edge brings that ends at an input, else the one value that is set there."""
        edges = self._edges(node, port)
        if not edges:
            return (self._needed(level, node, port),)
        self._all.linked.add((self._prefix + node.id, port.name))
        return tuple(dict.fromkeys(level.take(self._outputs[edge.source, edge.output]) for edge in edges))

    def _argument(self, level: Level, node: DocumentNode, port: Port) -> Arg | None:
        """Return what an input takes: what edges bring, else a slot; `None` where that is left to the task."""
        place = (self._prefix + node.id, port.name)
        edges = self._edges(node, port)
        if edges:
            self._all.linked.add(place)
            args = tuple(level.take(self._outputs[edge.source, edge.output]) for edge in edges)
            return Packed("list", args) if port.is_many else args[0]
        if port.source == "input_value" and self._given is not None:
            self._all.linked.add(place)
            return level.take(self._given)
        value = node.values.get(port.name, port.default)
        if value is UNSET and port.source is None and place not in self._all.extra:
            return None
        slot, index = level.bind(None if value is UNSET else value)
        self._all.slots[place] = index
        if port.source is not None and not (self._prefix and port.source == "input_value"):
            fill = Fill(index, port, node.component.input_type)
            self._all.fills.setdefault(port.source, []).append(fill)
        return slot


def _call(work: Definition, named: Mapping[str, Arg]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments by position and by name, as few by name as can be: the engine is quickest with the former."""
    left = dict(named)
    ordered: dict[str, Any] = {}
    for parameter in work.inputs.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:  # it comes last, and takes whatever is left
            ordered[parameter.name] = left
        elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name in left:
            ordered[parameter.name] = left.pop(parameter.name)
    return work.inputs.split(ordered)
