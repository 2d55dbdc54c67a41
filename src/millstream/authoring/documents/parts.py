"""Takes a part out of a document: what a node needs, or what comes after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from millstream.authoring.documents.document import Document
from millstream.authoring.documents.plain import raise_all, shown
from millstream.authoring.documents.scopes import inside


def part_of(document: Document, start: str | None, stop: str | None) -> Document:
    """Return the document of a part; see `DocumentFlow.part`.

    Raises:
        DocumentError: There is no such node, or `stop` does not come after `start`.
    """
    named = {"start": start, "stop": stop}
    raise_all(
        (name, f"there is no node {shown(node)}")
        for name, node in named.items()
        if node is not None and node not in document.nodes
    )
    parents = {node.id: node.parent for node in document.nodes.values()}
    top = {node: str(inside(parents, node)[-2]) for node in parents}
    before: dict[str, set[str]] = {}
    after: dict[str, set[str]] = {}
    for edge in document.edges:
        before.setdefault(top[edge.target], set()).add(top[edge.source])
        after.setdefault(top[edge.source], set()).add(top[edge.target])
    wanted = set(top.values()) if start is None else _reached([top[start]], after)
    if stop is not None:
        if top[stop] not in wanted:
            raise_all([("stop", f"{shown(stop)} does not come after {shown(start)}")])
        wanted &= _reached([top[stop]], before)
    kept = _reached(wanted, before)
    return Document.of(
        (node for node in document.nodes.values() if top[node.id] in kept),
        (edge for edge in document.edges if top[edge.source] in kept and top[edge.target] in kept),
        (node for node in document.order if top[node] in kept),
    )


def _reached(begin: Iterable[str], ways: Mapping[str, Iterable[str]]) -> set[str]:
    """Return some nodes, and all that can be reached from them."""
    found = set(begin)
    left = list(found)
    while left:
        fresh = set(ways.get(left.pop(), ())) - found
        found |= fresh
        left += fresh
    return found
