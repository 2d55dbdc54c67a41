"""Where the nodes of a document are, at the top or in loops, what they see from there, and in which order they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Final

MOST_LOOPS: Final = 8
"""How deeply loops may lie in each other."""


def inside(parents: Mapping[str, str | None], node: str | None) -> list[str | None]:
    """Return a node, the loop that it is in, and so on outwards; `None`, the document itself, is the last.

    >>> inside({"a": "loop", "loop": None}, "a")
    ['a', 'loop', None]
    """
    chain: list[str | None] = [node]
    while node is not None and len(chain) < MOST_LOOPS + 2:
        node = parents[node]
        chain.append(node)
    return chain


def lifted(parents: Mapping[str, str | None], source: str, target: str) -> tuple[str, str] | None:
    """Return what an edge means for the order of its source and those beside it; `None` where it means nothing there.

    What leads into a loop leads to the loop; what comes from a loop's own ports, or leads back to them, is the loop's.

    >>> lifted({"a": None, "b": "loop", "loop": None}, "a", "b")
    ('a', 'loop')
    """
    beside = parents[source]
    node: str | None = target
    while node is not None and parents[node] != beside:
        node = parents[node]
    return None if node is None or node == source else (source, node)


def ordered(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Return nodes so that each comes after those that lead to it, else in their own order; and those that cannot.

    >>> ordered(["b", "a", "x", "y"], [("a", "b"), ("x", "y"), ("y", "x")])
    (['a', 'b'], ['x', 'y'])
    """
    place = {node: index for index, node in enumerate(nodes)}
    names = list(place)
    after: dict[str, list[str]] = {node: [] for node in names}
    waits = dict.fromkeys(names, 0)
    for source, target in edges:
        after[source].append(target)
        waits[target] += 1
    free = [place[node] for node in names if not waits[node]]
    heapify(free)
    found = []
    while free:
        node = names[heappop(free)]
        found.append(node)
        for target in after[node]:
            waits[target] -= 1
            if not waits[target]:
                heappush(free, place[target])
    return found, [node for node in names if waits[node]]
