"""Graphs: nodes and edges without values, addressed by the digest of their shape.

A node's arguments are templates (`Arg`): slots, which the job's bindings fill, and results or failures of other nodes.
An edge is either one of these (data) or an `After` (order, or a router's choice). Cycles cannot be written: a `loop`
node owns the graph of one turn as its `body`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from millstream.model.policy import Policy

JoinRule = Literal[
    "all_success",
    "all_done",
    "all_failed",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "all_skipped",
    "always",
    "k_of_n",
]
NodeKind = Literal["task", "flow", "router", "merge", "loop", "sleep", "approval"]


class Slot(msgspec.Struct, frozen=True, tag="slot", array_like=True):
    """The job's binding with this index, from 0; `path` picks inside it."""

    index: int
    path: tuple[str | int, ...] = ()


class Result(msgspec.Struct, frozen=True, tag="result", array_like=True):
    """The result of the node with this index; `path` picks inside it (a port, then keys), in order."""

    node: int
    path: tuple[str | int, ...] = ()


class Packed(msgspec.Struct, frozen=True, tag="packed", array_like=True):
    """A list or tuple with results somewhere inside it."""

    kind: Literal["list", "tuple"]
    items: tuple[Arg, ...]


class Keyed(msgspec.Struct, frozen=True, tag="keyed", array_like=True):
    """A dict with results somewhere among its values."""

    keys: tuple[str | int, ...]
    items: tuple[Arg, ...]


class Failed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """Something of the first of these nodes that failed itself, not for want of another: what an errback is given.

    It is an edge from each of them. Where none of them failed itself, the node that takes it is skipped.

    Attributes:
        nodes: Indexes of the nodes, in order.
        part: Its task id, its `Request`, its exception, or the text of its traceback.
    """

    nodes: tuple[int, ...]
    part: Literal["id", "request", "error", "traceback"]


Arg = Slot | Result | Packed | Keyed | Failed


class After(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """An edge without data from the node with this index.

    Attributes:
        node: Index of the node that comes first.
        when: Behind a router: the label that must be chosen; else this edge counts as skipped.
    """

    node: int
    when: str | None = None


class Map(msgspec.Struct, frozen=True, omit_defaults=True):
    """Run a node once for each item.

    Attributes:
        over: The arguments to map over: positions (int) and names (str). All others are the same for each item.
        product: Take every combination of the mapped arguments (the last one turns fastest) instead of pairing them.
        chunk: Items that share one attempt, 1 or more; they run one after the other in it.
        in_flight: Attempts that may be open at once; 0 leaves it to the engine.
    """

    over: tuple[int | str, ...]
    product: bool = False
    chunk: int = 1
    in_flight: int = 0


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a graph.

    Attributes:
        id: Its name in this graph, unique; made of letters, digits, `_`, `-` and `.`.
        kind: What stands there: a `task`, a sub-`flow`, a `router` (chooses among its labelled edges), a `merge` (the
            first of its arguments that has a result), a `loop`, or a wait (`sleep`, `approval`).
        task: The task's or flow's registered name.
        args: Positional arguments.
        kwargs: Arguments by name.
        after: Edges without data.
        join: When it starts, given how its predecessors ended.
        k: For `k_of_n`: how many must succeed, 1 or more.
        map: Run it once for each item.
        policy: Replaces the task's own policy.
        body: For a loop: the graph of one turn. Its slots are the loop's arguments, the state first; its result is the
            pair of the next state (as a list) and whether that was the last turn.
        labels: For a router: what it can choose. `true` and `false` alone choose by truth.
        max_turns: For a loop: more turns than this fail it.
        headers: What `self.request.headers` gives its task.
    """

    id: str
    kind: NodeKind = "task"
    task: str = ""
    args: tuple[Arg, ...] = ()
    kwargs: tuple[tuple[str, Arg], ...] = ()
    after: tuple[After, ...] = ()
    join: JoinRule = "all_success"
    k: int = 0
    map: Map | None = None
    policy: Policy | None = None
    body: Graph | None = None
    labels: tuple[str, ...] = ()
    max_turns: int = 0
    headers: Arg | None = None


class Graph(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes in order; edges lie in the nodes.

    Attributes:
        nodes: The nodes; results and edges name them by their index here.
        slots: How many bindings a job of this graph brings.
        result: What the graph gives when it succeeded; `None` gives nothing.
    """

    nodes: tuple[Node, ...]
    slots: int = 0
    result: Arg | None = None


_encode = msgspec.json.Encoder().encode


def digest(graph: Graph) -> str:
    """Return the digest of a graph's shape: SHA-256 of its JSON form, 64 hexadecimal digits.

    >>> digest(Graph(nodes=(Node(id="a", task="t"),))) == digest(Graph(nodes=(Node(id="a", task="t"),)))
    True
    """
    return hashlib.sha256(_encode(graph)).hexdigest()


def results_in(arg: Arg | None) -> list[int]:
    """Return the indexes of the nodes whose results or failures an argument holds, in order, with repetitions."""
    match arg:
        case Result(node):
            return [node]
        case Packed(_, items) | Keyed(_, items):
            return [node for item in items for node in results_in(item)]
        case Failed(nodes):
            return list(nodes)
        case _:
            return []


def slots_in(arg: Arg | None) -> list[int]:
    """Return the indexes of the slots that an argument holds, in order."""
    match arg:
        case Slot(index):
            return [index]
        case Packed(_, items) | Keyed(_, items):
            return [index for item in items for index in slots_in(item)]
        case _:
            return []


def takes_failure(node: Node) -> bool:
    """Whether an argument of a node holds something of nodes that failed: whether it is an errback."""
    return any(holds_failure(arg) for arg in arguments(node))


def holds_failure(arg: Arg | None) -> bool:
    """Whether an argument holds something of nodes that failed."""
    match arg:
        case Failed():
            return True
        case Packed(_, items) | Keyed(_, items):
            return any(holds_failure(item) for item in items)
        case _:
            return False


def arguments(node: Node) -> list[Arg]:
    """Return all arguments of a node: those by position, those by name, and its headers."""
    headers = () if node.headers is None else (node.headers,)
    return [*node.args, *(arg for _, arg in node.kwargs), *headers]


def predecessors(node: Node) -> dict[int, str | None]:
    """Return each predecessor's index once, with the label of its edge where it has one."""
    found: dict[int, str | None] = dict.fromkeys(i for arg in arguments(node) for i in results_in(arg))
    for edge in node.after:
        if edge.when is not None or edge.node not in found:
            found[edge.node] = edge.when
    return found


def pick(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return what lies at `path` in a value: keys of mappings, positions of sequences, else attributes.

    Methods of builtin types and of mappings are no attributes here, nor is anything that begins with `_`: a path may
    come from whoever sends a graph.

    Raises:
        LookupError: There is nothing at that path; the message names the path.

    >>> pick({"rows": [3, 4]}, ("rows", 1))
    4
    """
    for key in path:
        try:
            value = value[key]
        except (TypeError, LookupError) as error:
            if isinstance(key, str) and _has_attributes(value) and not key.startswith("_") and hasattr(value, key):
                value = getattr(value, key)
                continue
            place = "".join(f"[{k!r}]" for k in path)
            message = f"a {type(value).__name__} has nothing at {key!r} (asked for {place} of a result)"
            raise LookupError(message) from error
    return value


def _has_attributes(value: Any) -> bool:
    return type(value).__module__ != "builtins" and not isinstance(value, Mapping)
