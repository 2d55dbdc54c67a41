"""Tells a graph row by row: its nodes, how far each is from the start, and what it waits for."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from millstream.model.graph import Graph, Node, predecessors
from millstream.model.policy import DEFAULT_POLICY, Policy


@dataclass(frozen=True, slots=True)
class Row:
    """One node of a graph.

    Attributes:
        depth: Nodes on the longest way to it from the start; those of a loop's body lie below the loop.
        id: Its id.
        kind: What stands there.
        task: The registered name of its task or flow, where one stands there.
        after: What it waits for: ids, with the label behind a router.
        notes: What else there is to say.
    """

    depth: int
    id: str
    kind: str
    task: str
    after: tuple[str, ...]
    notes: tuple[str, ...]


def rows(graph: Graph, level: int = 0) -> Iterator[Row]:
    """Yield the nodes of a graph, each after all that it waits for; a loop's body follows the loop."""
    before = [predecessors(node) for node in graph.nodes]
    depths: dict[int, int] = {}
    for index in _in_order(before):
        node = graph.nodes[index]
        depths[index] = max((depths[i] + 1 for i in before[index]), default=level)
        after = tuple(
            graph.nodes[i].id if label is None else f"{graph.nodes[i].id} = {label}"
            for i, label in before[index].items()
        )
        yield Row(depths[index], node.id, node.kind, node.task, after, tuple(_notes(node)))
        if node.body is not None:
            yield from rows(node.body, depths[index] + 1)


def as_data(graph: Graph) -> list[dict[str, Any]]:
    """Return a graph's nodes for programs."""
    return [
        {
            "id": node.id,
            "kind": node.kind,
            "task": node.task or None,
            "after": [{"node": graph.nodes[i].id, "when": label} for i, label in predecessors(node).items()],
            "join": node.join,
            "map": None if node.map is None else msgspec.to_builtins(node.map),
            "policy": None if node.policy is None else changes(node.policy),
            "body": None if node.body is None else as_data(node.body),
        }
        for node in graph.nodes
    ]


def changes(policy: Policy) -> dict[str, Any]:
    """Return what a policy says otherwise than the default.

    >>> changes(Policy(retries=3))
    {'retries': 3}
    """
    plain = msgspec.structs.asdict(DEFAULT_POLICY)
    return {name: value for name, value in msgspec.structs.asdict(policy).items() if value != plain[name]}


def _in_order(before: Sequence[Collection[int]]) -> Iterator[int]:
    """Yield nodes such that each comes after its predecessors, and otherwise in the order in which they were drawn."""
    left = [len(sources) for sources in before]
    after: list[list[int]] = [[] for _ in before]
    for index, sources in enumerate(before):
        for source in sources:
            after[source].append(index)
    free = [index for index, count in enumerate(left) if not count]
    while free:
        index = heapq.heappop(free)
        yield index
        for target in after[index]:
            left[target] -= 1
            if not left[target]:
                heapq.heappush(free, target)


def _notes(node: Node) -> Iterator[str]:
    if node.map is not None:
        yield "for each item"
        if node.map.product:
            yield "of every combination"
        if node.map.chunk > 1:
            yield f"{node.map.chunk} per attempt"
    if node.join != "all_success":
        yield f"join {node.join}" + (f" ({node.k})" if node.join == "k_of_n" else "")
    if node.labels:
        yield " | ".join(node.labels)
    if node.max_turns:
        yield f"at most {node.max_turns} turns"
    if node.policy is not None:
        yield from (f"{name} {value}" for name, value in changes(node.policy).items())
