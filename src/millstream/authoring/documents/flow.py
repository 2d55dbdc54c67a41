"""`DocumentFlow`: a flow document as a flow like any other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any, Final, NamedTuple, Self

from millstream.authoring.documents.binding import Given, tweaks_of
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.document import Document, DocumentNode
from millstream.authoring.documents.drawing import Compiled, Place, compiled
from millstream.authoring.documents.fields import uuid_of
from millstream.authoring.documents.parts import part_of
from millstream.authoring.documents.plain import shown
from millstream.authoring.documents.reading import Find, read_document
from millstream.authoring.draw import DEFAULT_MAX_NODES, Drawn, Shapes
from millstream.authoring.flow import DRAW_SECONDS, Flow
from millstream.authoring.inputs import Inputs
from millstream.errors import DocumentError
from millstream.graph.shape import Shape
from millstream.model.job import Durability
from millstream.model.names import document_name

_MOST_VARIANTS: Final = 16
"""Graphs of one document that are kept: more than one only where tweaks set what the document leaves to the tasks."""


class Output(NamedTuple):
    """A node whose value is in the result of a document's jobs.

    Attributes:
        id: The node's id.
        label: What people call it.
        component: The component's name.
        type: What it shows: the component's `output_type`, such as `chat`; empty for a node that is merely the last.
    """

    id: str
    label: str
    component: str
    type: str


class DocumentFlow(Flow):
    """A flow document as a flow: `await app.submit(DocumentFlow(id, data, catalogue), input_value="hi")`.

    Its name is `flow:<flow id>`; its version is the digest of what in the document can change what runs. It is read
    once and compiled at its first job: a further one only fills in values, so keep it and submit it again.

    The inputs of its jobs:
        input_value: Text for the nodes that take the input of this `input_type`; empty leaves them their own value.
        input_type: `chat`, `text`, … or `any`.
        session: Id of the conversation.
        tweaks: Values for this job alone: `{node id or label: {input: value}}`. Nodes of sub-flows are called
            `<id of the sub-flow's node>.<id there>`.
        files: Names of files.
        payload: The body of a webhook's call.

    A job's result is `{"outputs": {node id: value}}`: of each output node, in the document's order, what its task
    returned, `None` where the node was skipped; see `outputs`. A document without such nodes gives the values of
    those that no other follows; a part up to `stop` gives that node's value, too. Nodes in loops give none.

    The node that runs for a node of the document has its id. Nodes that belong to it, and the nodes of a sub-flow in
    its place, are called `<id>.<something>`; those in a loop `<loop>[turn]/<id>`.

    Args:
        flow_id: The flow's id, a UUID.
        data: The document; see `read_document`.
        catalogue: What its nodes can be.
        find: Gives the documents that are its sub-flows.
        description: What people read.
        durability: How safe its jobs are; by default the setting says.

    Raises:
        DocumentError: The document is not valid, or the id is no UUID.

    Attributes:
        document: What was read.
        outputs: The nodes whose values its jobs return, in order.

    Example:
        >>> from millstream import Catalogue, DocumentFlow, task
        >>> from millstream.authoring.documents.describe import component_of
        >>> @task(name="shout")
        ... def shout(text: str) -> str: return text.upper()
        >>> catalogue = Catalogue([component_of(shout)], {"shout": shout}.__getitem__)
        >>> node = {"id": "a", "data": {"component": "shout", "values": {"text": "hi"}}}
        >>> flow = DocumentFlow("0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f", {"nodes": [node]}, catalogue)
        >>> flow.run(), flow.run(tweaks={"a": {"text": "you"}})
        ({'outputs': {'a': 'HI'}}, {'outputs': {'a': 'YOU'}})
    """

    def __init__(
        self,
        flow_id: str,
        data: Mapping[str, Any] | bytes | str,
        catalogue: Catalogue,
        *,
        find: Find | None = None,
        description: str = "",
        durability: Durability | None = None,
    ) -> None:
        """Read the document."""
        flow_id = _checked(flow_id)
        super().__init__(document_name(flow_id), durability=durability)
        self.inputs = Inputs(_inputs, self.name)
        self.description = description
        self._catalogue = catalogue
        self._take(read_document(data, catalogue, find, flow_id))

    def _take(self, document: Document, stop: str | None = None) -> None:
        self.document = document
        nodes = document.outputs
        if stop is not None and document.nodes[stop].parent is None and document.nodes[stop] not in nodes:
            nodes = [*nodes, document.nodes[stop]]
        self._nodes: list[DocumentNode] = nodes
        self.outputs = tuple(
            Output(node.id, node.label, node.component.name, node.component.output_type) for node in nodes
        )
        self._variants: dict[Collection[Place], tuple[Compiled, Shape]] = {}

    @property
    def version(self) -> str:
        """Digest of what runs: positions and notes do not count."""
        return self.document.digest

    def part(self, start: str | None = None, stop: str | None = None) -> Self:
        """Return the flow of a part of the document, under the same name.

        A node in a loop stands for the whole loop.

        Args:
            start: Id of a node: only it, what comes after it, and what these need.
            stop: Id of a node: only it, and what it needs.

        Raises:
            DocumentError: There is no such node, or `stop` does not come after `start`.
        """
        if start is None and stop is None:
            return self
        part = copy(self)
        part._take(part_of(self.document, start, stop), stop)  # noqa: SLF001  it is one of ours
        return part

    async def draw_in_time(
        self, inputs: dict[str, Any], seconds: float = DRAW_SECONDS, max_nodes: int = DEFAULT_MAX_NODES
    ) -> Drawn:
        """Fill in the values; the first time the graph is made, in a thread. See `Flow.draw_in_time`.

        Raises:
            DocumentError: An input or a tweak does not fit; `problems` lists all.
            DrawingTimeoutError: It took longer.
            GraphError: The graph is too large.
        """
        if self._variants and not inputs["tweaks"]:  # they may need another graph
            return self.draw(inputs, max_nodes)
        return await super().draw_in_time(inputs, seconds, max_nodes)

    def draw(self, inputs: dict[str, Any], max_nodes: int = DEFAULT_MAX_NODES) -> Drawn:
        """Return the document's graph with the values of a job.

        Raises:
            DocumentError: An input or a tweak does not fit; `problems` lists all.
            GraphError: The graph is too large.
        """
        found, shape = self._variant(frozenset(), max_nodes)
        given = Given.of(inputs)
        tweaks = tweaks_of(given.tweaks, found)
        extra = frozenset(place for place in tweaks if place not in found.slots)
        if extra:
            found, shape = self._variant(extra, max_nodes)
        return Drawn(shape, given.values(found, tweaks), found.works)

    def _variant(self, extra: frozenset[Place], max_nodes: int) -> tuple[Compiled, Shape]:
        """Return the graph in which certain inputs have a slot, too."""
        known = self._variants.get(extra)
        if known is None:
            found = compiled(self.document, self._catalogue, self._nodes, extra)
            if len(self._variants) >= _MOST_VARIANTS:
                self._variants = {}
            known = self._variants[extra] = found, Shapes(1).get(found.graph, max_nodes)
        return known


def _inputs(
    input_value: str = "",
    input_type: str = "chat",
    session: str | None = None,
    tweaks: Mapping[str, Mapping[str, Any]] | None = None,
    files: list[str] | None = None,
    payload: Any = None,
) -> None:
    """Stand for the inputs of a document's jobs: their names, types and defaults."""


def _checked(flow_id: str) -> str:
    """Return a flow's id, in the one form that UUIDs have here.

    Raises:
        DocumentError: It is no UUID.
    """
    found = uuid_of(flow_id)
    if found is None:
        raise DocumentError([("id", f"{shown(flow_id)} is no UUID")])
    return found
