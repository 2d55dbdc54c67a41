"""What a graph must be to run: every problem is found, and said with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from millstream.errors import GraphError, GraphTooLargeError
from millstream.model.graph import (
    Arg,
    Failed,
    Graph,
    Keyed,
    Node,
    Packed,
    arguments,
    holds_failure,
    predecessors,
    results_in,
    slots_in,
    takes_failure,
)

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_ID_RULE = "an id consists of 1 to 200 letters, digits, '_', '-' and '.', and does not begin with '-' or '.'"
_BEHIND_NO_FAILURE = ("all_success", "none_failed", "none_failed_min_one_success", "all_skipped")
_NEEDS_TASK = ("task", "flow")


def validate(graph: Graph, *, max_nodes: int = 100_000) -> None:
    """Refuse a graph that cannot run.

    Args:
        graph: The graph, with the bodies of its loops.
        max_nodes: How many nodes it may have, bodies included.

    Raises:
        GraphTooLargeError: It has too many nodes, and nothing else is wrong with it.
        GraphError: With every problem that was found.

    >>> validate(Graph(nodes=(Node(id="a", task="t"),)))
    """
    try:
        problems = list(_problems(graph, ""))
        count = _count(graph)
    except RecursionError:
        raise GraphError(["graph: its arguments or the bodies of its loops are nested too deeply"]) from None
    if count > max_nodes:
        problems.append(f"the graph has {count} nodes, but may have {max_nodes} (setting max_graph_nodes)")
        if len(problems) == 1:
            raise GraphTooLargeError(problems)
    if problems:
        raise GraphError(problems)


def _count(graph: Graph) -> int:
    return len(graph.nodes) + sum(_count(node.body) for node in graph.nodes if node.body)


def _problems(graph: Graph, place: str) -> Iterator[str]:
    here = f"the body of node {place[:-1]}" if place else "graph"
    seen: set[str] = set()
    for node in graph.nodes:
        where = f"node {place}{_shown(node.id)}"
        if not _ID.fullmatch(node.id):
            yield f"{where}: {_ID_RULE}"
        if node.id in seen:
            yield f"{where}: this id is used twice"
        seen.add(node.id)
        yield from (f"{where}: {problem}" for problem in _node_problems(node, graph))
        if node.body is not None:
            yield from _problems(node.body, f"{place}{_shown(node.id)}/")
    yield from (f"{here}: {problem}" for problem in _result_problems(graph))
    cycle = _cycle(graph)
    if cycle:
        yield f"{here}: the nodes {' -> '.join(cycle)} wait for each other; write a cycle as a loop"


def _result_problems(graph: Graph) -> Iterator[str]:
    for index in results_in(graph.result):
        if not 0 <= index < len(graph.nodes):
            yield f"the result names node {index}, but there are {len(graph.nodes)}"
    for slot in slots_in(graph.result):
        if not 0 <= slot < graph.slots:
            yield f"the result names slot {slot}, but there are {graph.slots}"
    yield from _packing_problems(graph.result)
    if holds_failure(graph.result):
        yield "the result is what failed, which only a node can take"


def _node_problems(node: Node, graph: Graph) -> Iterator[str]:
    before = predecessors(node)
    for index in before:
        if not 0 <= index < len(graph.nodes):
            yield f"it waits for node {index}, but there are {len(graph.nodes)}"
        elif graph.nodes[index] is node:
            yield "it waits for itself"
    yield from _argument_problems(node, graph)
    yield from _label_problems(node, graph)
    yield from _kind_problems(node)
    yield from _join_problems(node, len(before))
    yield from _map_problems(node)


def _argument_problems(node: Node, graph: Graph) -> Iterator[str]:
    names = [name for name, _ in node.kwargs]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"its argument {name!r} is given twice"
    for arg in arguments(node):
        for slot in slots_in(arg):
            if not 0 <= slot < graph.slots:
                yield f"an argument names slot {slot}, but there are {graph.slots}"
        yield from _packing_problems(arg)


def _packing_problems(arg: Arg | None) -> Iterator[str]:
    if isinstance(arg, Keyed) and len(arg.keys) != len(arg.items):
        yield f"a dict in it has {len(arg.keys)} keys, but {len(arg.items)} values"
    if isinstance(arg, Failed) and not arg.nodes:
        yield "it takes what failed, but names no node"
    if isinstance(arg, Keyed | Packed):
        for item in arg.items:
            yield from _packing_problems(item)


def _label_problems(node: Node, graph: Graph) -> Iterator[str]:
    labels: dict[int, list[str]] = {}
    for edge in node.after:
        if edge.when is not None and 0 <= edge.node < len(graph.nodes):
            labels.setdefault(edge.node, []).append(edge.when)
    for index, found in labels.items():
        router, name = graph.nodes[index], _shown(graph.nodes[index].id)
        if len(set(found)) > 1:
            yield f"its edges from {name} have the labels {_listed(found)}, but a node follows one of them"
        for label in found:
            if router.kind != "router":
                yield f"its edge from {name} has the label {label!r}, but {name} is no router"
            elif label not in router.labels:
                yield f"its edge from {name} has the label {label!r}, which is not among {_listed(router.labels)}"


def _shown(name: str) -> str:
    """Return an id as problems write it: on one line, whatever it holds."""
    return name if _ID.fullmatch(name) else repr(name)


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(repr(label) for label in labels)


def _kind_problems(node: Node) -> Iterator[str]:
    if node.kind in _NEEDS_TASK and not node.task:
        yield f"a {node.kind} node needs the name of its {node.kind}"
    if node.kind == "router" and (len(node.args) != 1 or not node.labels):
        yield "a router needs one argument and at least one label"
    if node.kind == "merge" and not node.args:
        yield "a merge needs at least one argument"
    if node.kind == "sleep" and len(node.args) != 1:
        yield "a sleep needs one argument: how long, or until when"
    if node.kind == "approval" and len(node.args) > 1:
        yield "an approval takes one argument at most"
    if node.kind == "loop":
        yield from _loop_problems(node)
    elif node.body is not None:
        yield f"only a loop has a body, and this is a {node.kind}"


def _loop_problems(node: Node) -> Iterator[str]:
    if node.body is None:
        yield "a loop needs a body"
    else:
        if node.body.slots != len(node.args):
            yield f"its body takes {node.body.slots} values, but the loop starts with {len(node.args)}"
        if node.body.result is None:
            yield "its body has no result: the pair of the next state and whether that was the last turn"
    if node.max_turns < 1:
        yield f"max_turns is {node.max_turns}, but must be 1 or more"


def _join_problems(node: Node, before: int) -> Iterator[str]:
    if node.join == "k_of_n" and not 1 <= node.k <= before:
        yield f"k is {node.k}, but must be 1 to {before}, the number of its predecessors"
    if takes_failure(node) and node.join in _BEHIND_NO_FAILURE:
        yield f"it takes what failed, but never runs behind a failure (join rule {node.join}); try one_failed"
    if node.join == "always" and any(results_in(arg) for arg in arguments(node)):
        yield "it starts at once (join rule always), so it cannot take another node's result"


def _map_problems(node: Node) -> Iterator[str]:
    if node.map is None:
        return
    if node.kind not in _NEEDS_TASK:
        yield f"only tasks and flows can be mapped, and this is a {node.kind}"
    names = {name for name, _ in node.kwargs}
    known = [key in names if isinstance(key, str) else 0 <= key < len(node.args) for key in node.map.over]
    if not node.map.over or not all(known):
        yield f"it maps over {list(node.map.over)}, which are not all arguments of it"
    if node.map.chunk < 1 or node.map.in_flight < 0:
        yield "chunk must be 1 or more, and in_flight 0 or more"


def _cycle(graph: Graph) -> list[str]:
    """Return the ids of nodes that wait for each other, by Kahn's algorithm; none for a graph that can run.

    A node that waits for itself is left to `_node_problems`.
    """
    size = len(graph.nodes)
    waits = [{i for i in predecessors(node) if 0 <= i < size} - {at} for at, node in enumerate(graph.nodes)]
    after: list[list[int]] = [[] for _ in range(size)]
    for target, sources in enumerate(waits):
        for source in sources:
            after[source].append(target)
    left = [len(sources) for sources in waits]
    free = [i for i in range(size) if not left[i]]
    done = 0
    while free:
        done += 1
        for target in after[free.pop()]:
            left[target] -= 1
            if not left[target]:
                free.append(target)
    return _walk_cycle(graph, waits, left) if done < size else []


def _walk_cycle(graph: Graph, waits: list[set[int]], left: list[int]) -> list[str]:
    at = next(i for i, count in enumerate(left) if count)
    trail: dict[int, None] = {}
    while at not in trail:
        trail[at] = None
        at = min(i for i in waits[at] if left[i])
    steps = list(trail)
    loop = steps[steps.index(at) :]
    return [_shown(graph.nodes[i].id) for i in reversed([*loop, loop[0]])]
