"""A flow document as data: what is left of the JSON form after reading it, without what only its picture needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

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
        nodes: Its nodes by id, in order.
        edges: Its edges, in order.
        digest: What tells it from documents that run otherwise: positions and notes do not count.
    """

    nodes: Mapping[str, DocumentNode]
    edges: tuple[DocumentEdge, ...]
    digest: str
