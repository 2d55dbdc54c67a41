"""Random canvases: every construct, nested, with callbacks and errbacks; the same seed gives the same ones.

Left out is what Celery 5.7 gets wrong in a way that nobody can rely on; the corpus shows each:

* the callbacks and errbacks of a chain of one part are lost, so that chains here have two parts and more;
* what is linked to a chain or chord that ends in a group runs once per member, or fails the first member;
* a group of a group, in a chain or header, has its results in the wrong order;
* a group of one, between other things, sometimes gives its result and sometimes a list of it;
* of several groups in a chain, a later one sometimes gets one result of the group before it instead of all;
* errbacks of what stands in the body of a chord are lost where its header fails, unless they are the body task's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.differential.canvases import Case, Node

_DEPTH = 3
_BAD = ("fail", "fail_otherwise", "never")
_ONE = ("double", "identity", "total", "scaled", "several", "nothing")
_BOUND = ("retried", "replaced", "replaced_by_chain", "replaced_by_group")
_POSITIONALS = {
    "constant": 0,
    **dict.fromkeys((*_ONE, *_BOUND, *_BAD), 1),
    **dict.fromkeys(("add", "pair", "tally"), 2),
}
"""How many positional arguments a task is given, those that come from before it included."""

_GOOD = tuple(name for name in _POSITIONALS if name not in _BAD)
_BAD_SHARE = 0.06
_REFINED_SHARE = 0.15


def cases(seed: int) -> Iterator[Case]:
    """Yield cases without end."""
    number = 0
    while True:
        yield _Author(random.Random(f"{seed}.{number}")).case()  # noqa: S311  canvases, no secrets
        number += 1


_Kind = Callable[[int, int], Node]


class _Author:
    """Writes one case."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._labels = 0
        self._bad = chance.choice(_BAD)  # where tasks fail in two ways, the quicker one is told

    def case(self) -> Case:
        args = [self._number()] if self._happens(0.3) else []
        canvas = self._node(_DEPTH, len(args), is_root=True)
        return {"canvas": canvas} | ({"args": args} if args else {})

    def _node(self, depth: int, incoming: int, *, is_root: bool = False, without: _Kind | None = None) -> Node:
        """Write a node that is given so many arguments by what comes before it."""
        kinds: list[_Kind] = [self._task]
        if depth:
            kinds += [self._chain, self._chain, self._group, self._chord, self._map]
            kinds = [kind for kind in kinds if kind != without]
        kind = self._chance.choice(kinds[1:] if is_root and self._happens(0.9) else kinds)
        if is_root and self._happens(0.03):
            return {"chunks": "add", "items": self._pairs(), "size": self._chance.randint(1, 3)}
        return self._refined(kind(depth, incoming))

    def _task(self, _depth: int, incoming: int) -> Node:
        name = self._bad if self._happens(_BAD_SHARE) else self._chance.choice(_GOOD)
        is_immutable = incoming > _POSITIONALS[name] or self._happens(0.1)
        own = _POSITIONALS[name] - (0 if is_immutable else incoming)
        node: Node = {"task": name}
        if own:
            node["args"] = [self._number() for _ in range(own)]
        if name in ("scaled", "tally") and self._happens(0.7):
            node["kwargs"] = {"by": self._number(), "plus": self._number()}
        if is_immutable:
            node["immutable"] = True
        elif name == "tally" and self._happens(0.3):
            node["clone"] = {"args": [self._number()], "kwargs": {"by": self._number()}}
        return node

    def _chain(self, depth: int, incoming: int) -> Node:
        parts = [self._node(depth - 1, incoming)]
        parts += [self._node(depth - 1, 1) for _ in range(self._chance.randint(1, 3))]
        while sum(map(_groups, parts)) > 1:
            parts[-1:] = [] if len(parts) > 2 else [self._task(0, 1)]
            parts[0] = parts[0] if _groups(parts[0]) < 2 else self._task(0, incoming)
        if any("task" not in part for part in parts):
            parts = [_without_errbacks(part) for part in parts]  # what follows a group is the body of a chord
        return {self._chance.choice(("chain", "pipe")): parts}

    def _group(self, depth: int, incoming: int) -> Node:
        return self._lazily({"group": self._members(depth, incoming)})

    def _chord(self, depth: int, incoming: int) -> Node:
        body = self._node(depth - 1, 1)
        body = body if "task" in body else _without_errbacks(body)
        return self._lazily({"chord": self._members(depth, incoming), "body": body})

    def _map(self, _depth: int, _incoming: int) -> Node:
        if self._happens(0.5):
            return {"map": self._chance.choice(("double", "several")), "items": [self._number() for _ in range(3)]}
        return {"starmap": "add", "items": self._pairs()}

    def _members(self, depth: int, incoming: int) -> list[Node]:
        return [self._node(depth - 1, incoming, without=self._group) for _ in range(self._chance.randint(2, 3))]

    def _lazily(self, node: Node) -> Node:
        return node | {"lazily": True} if self._happens(0.2) else node

    def _refined(self, node: Node) -> Node:
        """Add callbacks and errbacks, or a way through JSON."""
        if self._happens(_REFINED_SHARE) and ("group" in node or not _ends_in_group(node)):
            node["link"] = [self._callback(node) for _ in range(self._chance.randint(1, 2))]
        if self._happens(_REFINED_SHARE) and not _ends_in_chord(node):
            node["link_error"] = [self._errback() for _ in range(self._chance.randint(1, 2))]
        if self._happens(_REFINED_SHARE / 2):
            node["json"] = True
        return node

    def _callback(self, node: Node) -> Node:
        only = {"task": "noted_only", "args": [self._label()], "immutable": True}
        if "group" in node:
            return only  # Celery takes what is linked to a group as immutable
        noted = {"task": "noted", "args": [self._label()]}
        return self._chance.choice((only, noted, noted, {"chain": [{"task": "double"}, noted]}))

    def _errback(self) -> Node:
        label = self._label()
        return self._chance.choice(
            (
                {"task": "on_error", "kwargs": {"label": label}},
                {"task": "on_error_id", "kwargs": {"label": label}},
                {"task": "noted_only", "args": [label], "immutable": True},
            )
        )

    def _label(self) -> str:
        self._labels += 1
        return f"label {self._labels}"

    def _number(self) -> int:
        return self._chance.randint(-9, 99)

    def _pairs(self) -> list[list[int]]:
        return [[self._number(), self._number()] for _ in range(self._chance.randint(1, 4))]

    def _happens(self, share: float) -> bool:
        return self._chance.random() < share


def _ends_in_group(node: Node) -> bool:
    while True:
        match node:
            case {"group": _} | {"chunks": _}:
                return True
            case {"chain": [*_, node]} | {"pipe": [*_, node]} | {"chord": _, "body": node}:
                pass
            case _:
                return False


def _ends_in_chord(node: Node) -> bool:
    """Whether its last part, if it has parts, is a chord or anything else with parts."""
    match node:
        case {"chain": [*_, last]} | {"pipe": [*_, last]} | {"chord": _, "body": last}:
            return "task" not in last
    return False


def _groups(node: Node) -> int:
    """Return how many groups stand in a chain that this is part of, one after the other."""
    match node:
        case {"group": _}:
            return 1
        case {"chain": parts} | {"pipe": parts}:
            return sum(map(_groups, parts))
        case {"chord": _, "body": body}:
            return 1 + _groups(body)
    return 0


def _without_errbacks(node: Node) -> Node:
    bare: Node = {key: value for key, value in node.items() if key != "link_error"}
    for key in ("chain", "pipe", "group", "chord"):
        if key in bare:
            bare[key] = [_without_errbacks(part) for part in bare[key]]
    if "body" in bare:
        bare["body"] = _without_errbacks(bare["body"])
    return bare


def smaller(case: Case) -> Iterator[Case]:
    """Yield cases that are a step smaller: to find what in a case makes the difference."""
    for canvas in _smaller(case["canvas"]):
        yield case | {"canvas": canvas}


def _smaller(node: Node) -> Iterator[Node]:
    for key in ("json", "lazily", "link", "link_error", "clone", "kwargs"):
        if key in node:
            yield {name: value for name, value in node.items() if name != key}
    for key in ("chain", "pipe", "group", "chord", "link", "link_error"):
        parts: list[Any] = node.get(key, [])
        for place, part in enumerate(parts):
            yield part
            if len(parts) > 1:
                yield node | {key: parts[:place] + parts[place + 1 :]}
            for less in _smaller(part):
                yield node | {key: [*parts[:place], less, *parts[place + 1 :]]}
    if "body" in node:
        yield node["body"]
        for less in _smaller(node["body"]):
            yield node | {"body": less}
