"""How a canvas is written as plain data, and built with either library.

A node is an object with one of these keys, and beside it whatever `_refined` knows:

    {"task": "add", "args": [1], "kwargs": {}, "immutable": true}
    {"chain": [NODE, ...]}                 chain(a, b, ...)
    {"pipe": [NODE, ...]}                  a | b | ...
    {"group": [NODE, ...], "lazily": true} group([...]), or of a generator
    {"chord": [NODE, ...], "body": NODE, "lazily": true}
    {"map": "add", "items": [...]}, {"starmap": ...}, {"chunks": ..., "size": 2}
"""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Any

from tests.differential.tasks import Tasks

Node = dict[str, Any]
Case = dict[str, Any]
"""`{"canvas": NODE, "args": [...], "kwargs": {...}}`: what is called, and with what."""


def build(node: Node, library: Any, tasks: Tasks) -> Any:
    """Return the signature that a node stands for; `library` is the module `celery` or `millstream`."""

    def parts(key: str) -> Any:
        made = [build(part, library, tasks) for part in node[key]]
        return (part for part in made) if node.get("lazily") else made

    match node:
        case {"task": name}:
            options = {"immutable": True} if node.get("immutable") else {}
            made = tasks[name].signature(tuple(node.get("args", ())), dict(node.get("kwargs", {})), **options)
        case {"chain": _}:
            made = library.chain(*parts("chain"))
        case {"pipe": _}:
            made = reduce(or_, parts("pipe"))
        case {"group": _}:
            made = library.group(parts("group"))
        case {"chord": _, "body": body}:
            made = library.chord(parts("chord"), build(body, library, tasks))
        case {"map": name, "items": items}:
            made = tasks[name].map(items)
        case {"starmap": name, "items": items}:
            made = tasks[name].starmap(items)
        case {"chunks": name, "items": items, "size": size}:
            made = tasks[name].chunks(items, size)
        case _:
            raise ValueError(f"no such node: {node}")
    return _refined(made, node, library, tasks)


def _refined(made: Any, node: Node, library: Any, tasks: Tasks) -> Any:
    """Return a signature with what else its node asks for, in this order."""
    if "clone" in node:
        made = made.clone(tuple(node["clone"].get("args", ())), node["clone"].get("kwargs", {}))
    if "set" in node:
        made = made.set(**node["set"])
    if node.get("skew"):
        made = made.skew(start=0, stop=0, step=0)
    for callback in node.get("link", ()):
        made.link(build(callback, library, tasks))
    for errback in node.get("link_error", ()):
        made.link_error(build(errback, library, tasks))
    if node.get("json"):
        made = library.signature(json.loads(json.dumps(made)))
    return made
