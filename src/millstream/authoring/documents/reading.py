"""Reads flow documents, and says all that is wrong with one at once. Nothing in a document is ever run to read it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.document import Document, DocumentEdge, DocumentNode
from millstream.authoring.documents.fields import DATA, DOCUMENT, EDGE, NODE, field_problems, is_id, uuid_of
from millstream.authoring.documents.links import Links
from millstream.authoring.documents.nodes import policy_of, value_problems
from millstream.authoring.documents.plain import Problem, limit_problems, parsed, raise_all, shown
from millstream.authoring.documents.scopes import MOST_LOOPS
from millstream.authoring.documents.structure import SUBFLOW
from millstream.errors import DefinitionError, DocumentError, UnknownNameError
from millstream.model.component import Component

MOST_NODES: Final = 5_000
MOST_EDGES: Final = 20_000
MOST_SUBFLOWS: Final = 8
"""How deeply sub-flows may lie in each other."""

_MOST_ID: Final = 150
"""Characters of the id of a node in a sub-flow with those of the nodes around it; what belongs to it adds to that."""

_TOO_MANY: Final = ("nodes", f"with its sub-flows it has over {MOST_NODES:,} nodes")

_PART = re.compile(r"(nodes|edges)\[(\d+)\]")
_IDS: Final = {"nodes": ("id",), "edges": ("source", "target")}

Find = Callable[[str], Mapping[str, Any] | None]
"""Returns the data of another document by its flow's id; `None` where there is none, or not for this user."""


def read_document(
    data: Mapping[str, Any] | bytes | str, catalogue: Catalogue, find: Find | None = None, flow_id: str = ""
) -> Document:
    """Return a document that can run.

    Args:
        data: The document as JSON, or as read from it.
        catalogue: What its nodes can be.
        find: Gives the documents that are its sub-flows; without it a sub-flow is a problem.
        flow_id: The id of its own flow, which cannot be among its sub-flows.

    Raises:
        DocumentError: It is not valid; `problems` lists everything that is wrong, up to 100 problems.

    Example:
        >>> from millstream import task
        >>> from millstream.authoring.documents.describe import component_of
        >>> @task(name="shout")
        ... def shout(text: str) -> str: return text.upper()
        >>> catalogue = Catalogue([component_of(shout)], {"shout": shout}.__getitem__)
        >>> node = {"id": "a", "data": {"component": "shout", "values": {"text": 1, "code": "print()"}}}
        >>> try:
        ...     read_document({"nodes": [node], "edges": []}, catalogue)
        ... except DocumentError as error:
        ...     for where, what in error.problems: print(where, "|", what)
        nodes[0].data.values.text | 1 is not text (node a)
        nodes[0].data.values.code | flow documents hold no code (node a)
    """
    return _Reader(catalogue, find).read(parsed(data), (flow_id,))


def subflows_in(data: Any) -> set[str]:
    """Return the ids of the flows that a document names as its sub-flows, whatever else is wrong with it.

    For those who keep documents where `find` cannot wait: fetch these first, and theirs, and so on.

    >>> subflows_in({"nodes": [{"id": "a", "data": {"component": "Subflow", "values": {"flow": "0190d5ae"}}}]})
    {'0190d5ae'}
    """
    nodes = data.get("nodes") if isinstance(data, Mapping) else None
    inner = [node.get("data") for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, list | tuple) else []
    values = [one.get("values") for one in inner if isinstance(one, Mapping) and one.get("component") == SUBFLOW.name]
    ids = [one.get("flow") for one in values if isinstance(one, Mapping)]
    return {flow_id for flow_id in ids if isinstance(flow_id, str)}


class _Reader:
    """Reads a document and its sub-flows, each of these once."""

    def __init__(self, catalogue: Catalogue, find: Find | None) -> None:
        self._catalogue = catalogue
        self._find = find
        self._known: dict[str, Document | DocumentError] = {}
        self._nodes = 0

    def read(self, data: Any, around: tuple[str, ...]) -> Document:
        """Return a document that lies in those of these flows, its own one being the last of them."""
        raise_all(limit_problems(data))
        raise_all(field_problems(data, "", DOCUMENT))
        self._nodes += len(data.get("nodes") or ())
        if self._nodes > MOST_NODES and len(around) > 1:  # the outermost says it of its own nodes alone
            raise DocumentError([_TOO_MANY])
        reading = _Reading(self, data, around)
        raise_all(reading.problems())
        document = reading.document()
        if document.size > MOST_NODES:
            raise DocumentError([_TOO_MANY])
        return document

    def component(self, name: str) -> Component:
        """Return a component whose code is here.

        Raises:
            UnknownNameError: There is none, or its code is not here; the message says what to install for it.
        """
        found = self._catalogue.get(name)
        if extra := self._catalogue.missing.get(name):
            raise UnknownNameError(f"{name} needs packages that are not installed: pip install 'millstream[{extra}]'")
        if found is None:
            names = [component.name for component in self._catalogue]
            near = " or ".join(map(shown, difflib.get_close_matches(name, names)))
            hint = f"did you mean {near}? " if near else ""
            raise UnknownNameError(f"there is no component {shown(name)}; {hint}GET /api/v1/all of a server lists them")
        if found.task:
            self._catalogue.work(found)
        return found

    def subflow(self, named: str, around: tuple[str, ...]) -> Document:
        """Return the document of a sub-flow.

        Raises:
            DocumentError: There is none, or it is not valid; or it lies in itself.
        """
        flow_id = uuid_of(named)
        if flow_id is None:
            raise DocumentError([("", f"{shown(named)} is not a UUID; a flow is named by its id here")])
        if flow_id in around:
            raise DocumentError([("", "a flow cannot be a sub-flow of its own")])
        if len(around) > MOST_SUBFLOWS:
            raise DocumentError([("", f"sub-flows lie in each other more than {MOST_SUBFLOWS} deep")])
        if flow_id not in self._known:
            data = self._find(flow_id) if self._find is not None else None
            if data is None:
                raise DocumentError([("", f"there is no flow {shown(named)}")])
            try:
                self._known[flow_id] = self.read(data, (*around, flow_id))
            except DocumentError as error:  # it is not read again for each node that names it
                self._known[flow_id] = error
        known = self._known[flow_id]
        if isinstance(known, DocumentError):
            raise DocumentError(known.problems)
        if len(around) + known.depth > MOST_SUBFLOWS:
            raise DocumentError([("", f"sub-flows lie in each other more than {MOST_SUBFLOWS} deep")])
        return known

    def policy(self, component: Component, changes: Mapping[str, Any]) -> Any:
        """Return how the task of a component is run with changes; see `policy_of`."""
        return policy_of(self._catalogue, component, changes)


class _Reading:
    """Reads one document whose fields there may be."""

    def __init__(self, reader: _Reader, data: Mapping[str, Any], around: tuple[str, ...]) -> None:
        self._reader = reader
        self._around = around
        self._raw_nodes = data.get("nodes") or ()
        self._raw_edges = data.get("edges") or ()
        self._places: dict[str, str] = {}
        self._nodes: dict[str, DocumentNode] = {}
        self._links = Links(self._places, self._nodes)

    def document(self) -> Document:
        """Return what was read, when there were no problems."""
        return Document.of(self._nodes.values(), self._links.edges, self._links.order)

    def problems(self) -> Iterator[Problem]:
        """Read everything, and yield what is wrong."""
        for what, raw, most in (("nodes", self._raw_nodes, MOST_NODES), ("edges", self._raw_edges, MOST_EDGES)):
            if len(raw) > most:
                yield what, f"there are {len(raw):,}, but there may be {most:,}"
                return
        for where, what in self._all_problems():
            yield where, what + self._part(where)

    def _all_problems(self) -> Iterator[Problem]:
        for index, raw in enumerate(self._raw_nodes):
            yield from self._read_node(raw, f"nodes[{index}]")
        yield from self._parent_problems()
        for index, raw in enumerate(self._raw_edges):
            yield from self._read_edge(raw, f"edges[{index}]")
        yield from self._links.problems()

    def _part(self, where: str) -> str:
        """Return which part of the drawing is at a place: people know no indexes."""
        if (found := _PART.match(where)) is None:
            return ""
        raw = (self._raw_nodes if found[1] == "nodes" else self._raw_edges)[int(found[2])]
        named = [raw.get(key) for key in _IDS[found[1]]] if isinstance(raw, Mapping) else []
        ids = [one for one in named if isinstance(one, str) and is_id(one)]
        return f" ({found[1][:-1]} {' → '.join(ids)})" if len(ids) == len(_IDS[found[1]]) else ""

    def _read_edge(self, raw: Any, where: str) -> Iterator[Problem]:
        found = list(field_problems(raw, where, EDGE))
        yield from found
        if not found:
            edge = DocumentEdge(raw["source"], raw["sourceHandle"], raw["target"], raw["targetHandle"])
            yield from self._links.add(edge, where)
        elif isinstance(raw, Mapping):
            self._links.miss(raw.get("target"), raw.get("targetHandle"))

    # ------------------------------------------------------------------------------------------------------ nodes
    def _read_node(self, raw: Any, where: str) -> Iterator[Problem]:
        found = list(field_problems(raw, where, NODE))
        data = raw.get("data") if isinstance(raw, Mapping) else None
        if isinstance(data, Mapping):
            found += field_problems(data, f"{where}.data", DATA)
        yield from found
        node_id = raw.get("id") if isinstance(raw, Mapping) else None
        if isinstance(node_id, str) and is_id(node_id):
            if node_id in self._places:
                yield f"{where}.id", f"the id {shown(node_id)} is used twice"
                return
            self._places[node_id] = where
        if not found:
            yield from self._read_meaning(raw, where)

    def _read_meaning(self, raw: Mapping[str, Any], where: str) -> Iterator[Problem]:
        data = raw["data"]
        try:
            component = self._reader.component(data["component"])
        except UnknownNameError as error:
            yield f"{where}.data.component", str(error)
            return
        values = data.get("values") or {}
        found = list(value_problems(component, values, f"{where}.data.values"))
        yield from found
        policy, document = None, None
        try:
            policy = self._reader.policy(component, data.get("policy") or {})
        except DefinitionError as error:
            yield f"{where}.data.policy", str(error).removeprefix(f"{component.task}: ")
        if component.kind == "subflow" and not found and "flow" in values:
            try:
                document = self._reader.subflow(values["flow"], self._around)
                if len(raw["id"]) + 1 + document.longest > _MOST_ID:
                    yield f"{where}.id", f"with the ids of its sub-flow's nodes it is longer than {_MOST_ID} characters"
            except DocumentError as error:
                yield from _of_subflow(error, f"{where}.data.values.flow")
        label = data.get("label") or component.title or component.name
        self._nodes[raw["id"]] = DocumentNode(
            raw["id"], component, label, values, policy, raw.get("parentId"), document
        )

    def _parent_problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the loops that nodes say they are in; such nodes count as being in none."""
        parents = {node.id: node.parent for node in self._nodes.values()}
        for node in self._nodes.values():
            what, loops, above = None, 0, node.parent
            if above is not None and above not in self._nodes:
                what = None if above in self._places else f"there is no loop {shown(above)}"
                parents[node.id] = above = None
            elif above is not None and self._nodes[above].component.kind != "loop":
                what = f"{shown(above)} is no loop"
                parents[node.id] = above = None
            while above is not None and loops <= MOST_LOOPS:
                above, loops = parents.get(above), loops + 1
            if loops > MOST_LOOPS:
                what = f"loops lie in each other more than {MOST_LOOPS} deep, or in themselves"
                parents[node.id] = None
            if what is not None:
                yield f"{self._places[node.id]}.parentId", what
        self._links.parents.update(parents)


def _of_subflow(error: DocumentError, where: str) -> Iterator[Problem]:
    for inner, what in error.problems:
        yield where, f"in that flow, at {inner}: {what}" if inner else what
