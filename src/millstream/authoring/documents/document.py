"""A flow document as data: what is left of the JSON form after reading it, without what only its picture needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import msgspec

from millstream.authoring.documents.scopes import lifted
from millstream.model.component import Component
from millstream.model.policy import Policy


class DocumentNode(msgspec.Struct, frozen=True):
    """A node.

    Attributes:
        id: Its id, unique in the document.
        component: What it is.
        label: What people call it; by default the component's title.
        values: What is set at its inputs.
        policy: How its task is run, where it is not as the task says.
        parent: Id of the loop that it is in.
        document: Of a sub-flow: the document that runs in its place.
    """

    id: str
    component: Component
    label: str
    values: Mapping[str, Any] = {}
    policy: Policy | None = None
    parent: str | None = None
    document: Document | None = None


class DocumentEdge(msgspec.Struct, frozen=True):
    """An edge: from an output of one node to an input of another."""

    source: str
    output: str
    target: str
    input: str


class Document(msgspec.Struct, frozen=True):
    """A valid flow document.

    Attributes:
        nodes: Its nodes by id, in their order.
        edges: Its edges, in their order.
        order: The ids of its nodes, each after those that lead to it.
        digest: What tells it from documents that run otherwise: positions and notes do not count.
        size: How many nodes it has, those of its sub-flows included.
        depth: How deeply sub-flows lie in each other here; 0 without any.
        longest: Characters of the longest id, those of nodes in sub-flows with the ids around them.
    """

    nodes: Mapping[str, DocumentNode]
    edges: tuple[DocumentEdge, ...]
    order: tuple[str, ...]
    digest: str
    size: int
    depth: int
    longest: int

    @classmethod
    def of(cls, nodes: Iterable[DocumentNode], edges: Iterable[DocumentEdge], order: Iterable[str]) -> Self:
        """Return the document of these nodes and edges."""
        by_id, linked = {node.id: node for node in nodes}, tuple(edges)
        told = [
            (node.id, node.component.name, node.label, node.values, node.policy, node.parent, _digest_of(node))
            for node in by_id.values()
        ]
        digest = hashlib.sha256(msgspec.json.encode((told, linked), order="deterministic")).hexdigest()
        inner = [(node.id, node.document) for node in by_id.values() if node.document is not None]
        return cls(
            by_id,
            linked,
            tuple(order),
            digest,
            size=len(by_id) + sum(document.size for _, document in inner),
            depth=max((1 + document.depth for _, document in inner), default=0),
            longest=max((*map(len, by_id), *(len(name) + 1 + document.longest for name, document in inner)), default=0),
        )

    @property
    def outputs(self) -> list[DocumentNode]:
        """The nodes whose values its jobs return: output components, else all that no other node follows."""
        top = [node for node in self.nodes.values() if node.parent is None]
        given = [node for node in top if node.component.output_type]
        parents = {node.id: node.parent for node in self.nodes.values()}
        followed = {edge.source for edge in self.edges if lifted(parents, edge.source, edge.target)}
        return given or [node for node in top if node.id not in followed]


def _digest_of(node: DocumentNode) -> str | None:
    return None if node.document is None else node.document.digest
