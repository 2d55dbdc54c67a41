"""Documents of nodes and edges, as the editor of flows stores them: for tests."""

from __future__ import annotations

from typing import Any


def node(node_id: str, component: str, parent: str | None = None, **values: Any) -> dict[str, Any]:
    """Return a node as a document has it."""
    made: dict[str, Any] = {"id": node_id, "data": {"component": component, "values": values}}
    return made if parent is None else {**made, "parentId": parent}


def edge(source: str, target: str) -> dict[str, str]:
    """Return an edge, given as `node.port` and `node.port`."""
    (one, output), (other, port) = source.split("."), target.split(".")
    return {"source": one, "sourceHandle": output, "target": other, "targetHandle": port}


def document(nodes: list[dict[str, Any]], *edges: tuple[str, str]) -> dict[str, Any]:
    """Return a document."""
    return {"nodes": nodes, "edges": [edge(*ends) for ends in edges]}
