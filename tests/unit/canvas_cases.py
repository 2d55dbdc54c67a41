"""Tasks for the tests of canvases, and graphs of canvases as text."""

from __future__ import annotations

from typing import Any

from millstream import flow, task
from millstream.authoring.canvas.layout import GroupSpine, Layout, TaskSpine, lay_out
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.members import OWN
from millstream.errors import UnknownNameError
from millstream.model.graph import Arg, Failed, Keyed, Node, Packed, Result, Slot

told: list[Any] = []


@task(name="add")
def add(x: int, y: int = 0) -> int:
    return x + y


@task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task(name="same")
def same(value: Any = None) -> Any:
    return value


@task(name="given")
def given(*args: Any, **kwargs: Any) -> list[Any]:
    return [*args, kwargs]


@task(name="fail")
def fail(*_: Any) -> None:
    raise ValueError("no")


@task(name="tell")
def tell(what: Any) -> None:
    told.append(what)


@task(name="answer")
def answer(request: Any, error: Exception, traceback: str) -> None:
    told.append((request.task, repr(error), traceback.splitlines()[-1]))


@task(name="grow", bind=True)
def grow(self: Any, extra: int) -> int:
    self.add_to_chord(add.s(extra, extra))
    return extra


@flow(name="doubled")
def doubled(x: int) -> Any:
    return add(x, x)


WORKS: dict[str, Any] = {work.name: work for work in (add, total, same, given, fail, tell, answer, grow, doubled)}
WORKS |= OWN


def find(name: str) -> Any:
    if name not in WORKS:
        raise UnknownNameError(f"no task or flow is named {name!r}")
    return WORKS[name]


def layout(canvas: Signature) -> Layout:
    return lay_out(canvas, find)


def drawn(canvas: Signature) -> list[str]:
    """Write each node as a call, with what else holds for it."""
    made = layout(canvas).drawn
    return [_written(node, made) for node in made.shape.graph.nodes]


def returned(canvas: Signature) -> str:
    made = layout(canvas).drawn
    return shown(made.shape.graph.result, made)


def _written(node: Node, made: Any) -> str:
    args = [shown(arg, made) for arg in node.args]
    args += [f"{key}={shown(arg, made)}" for key, arg in node.kwargs]
    after = [made.shape.graph.nodes[edge.node].id for edge in node.after]
    text = f"{node.id}({', '.join(args)})"
    text += f" each {', '.join(map(str, node.map.over))}" if node.map else ""
    text += f" after {', '.join(after)}" if after else ""
    return text + (f" if {node.join}" if node.join != "all_success" else "")


def shown(arg: Arg | None, made: Any) -> str:
    nodes = made.shape.graph.nodes
    match arg:
        case Slot(index):
            return repr(made.bindings[index])
        case Result(node, _):
            return f"<{nodes[node].id}>"
        case Packed(_, items):
            return f"[{', '.join(shown(item, made) for item in items)}]"
        case Failed(suspects, part):
            return f"{part} of {'|'.join(nodes[node].id for node in suspects)}"
    assert not isinstance(arg, Keyed)
    return str(arg)


def of(node: str, parent: Any = None) -> TaskSpine:
    return TaskSpine(node, parent)


def both(*members: Any, parent: Any = None) -> GroupSpine:
    return GroupSpine(members, parent)
