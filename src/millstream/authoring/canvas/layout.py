"""Layout: how a canvas becomes one graph, and what its results are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from reprlib import Repr
from typing import Any

import msgspec

from millstream.authoring.canvas.depth import within_limits
from millstream.authoring.canvas.options import JOB_OPTIONS
from millstream.authoring.canvas.painter import START, Painter
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, to_signature
from millstream.authoring.canvas.spine import GroupSpine, Spine, TaskSpine
from millstream.authoring.draw import DEFAULT_MAX_NODES, Drawn, Shapes
from millstream.engine.program import Work

__all__ = ["GroupSpine", "Layout", "Spine", "TaskSpine", "draw_canvas", "lay_out"]


class Layout(msgspec.Struct, frozen=True):
    """A canvas as one graph, ready to be submitted.

    Attributes:
        drawn: The graph with its values and its code.
        spine: The shape of what `apply_async` returns.
        aliases: The task ids that were given, each with the id of its node.
        flow: The name of the first task.
        text: The canvas as it is written, in short.
        options: What the canvas as a whole says about its job: `countdown, eta, expires, priority, idempotency_key`.
    """

    drawn: Drawn
    spine: Spine
    aliases: Mapping[str, str]
    flow: str
    text: str
    options: Mapping[str, Any]


@within_limits()
def lay_out(sig: Signature, find: Callable[[str], Work], max_nodes: int = DEFAULT_MAX_NODES) -> Layout:
    """Return a canvas as one graph.

    Args:
        sig: A signature of any type.
        find: Returns the task or flow of a name; asked for those that a signature knows by name only.
        max_nodes: How many nodes it may have.

    Raises:
        GraphTooLargeError: It has more.
        UnknownNameError: A task or flow is not known.
        DefinitionError: An option is unknown, out of range or has no meaning here; a chain of nothing.
        InvalidInputError: The arguments of a task do not fit.
    """
    canvas = sig.shallow()
    for_job = {key: canvas.options.pop(key) for key in JOB_OPTIONS & canvas.options.keys()}
    painter = Painter(find)
    value, spine = _draw(painter, canvas)
    nodes = painter.drawing.nodes
    return Layout(
        drawn=painter.drawing.finish(value, Shapes(1), max_nodes),
        spine=spine,
        aliases=painter.aliases,
        flow=next((node.task for node in nodes if node.task), ""),
        text=text(sig),
        options=for_job,
    )


@within_limits()
def draw_canvas(sig: Signature, find: Callable[[str], Work]) -> Drawn:
    """Return the graph of a canvas that is to stand inside another graph: all its options hold for its nodes.

    Args:
        sig: A signature of any type.
        find: Returns the task or flow of a name.

    Raises:
        UnknownNameError: A task or flow is not known.
        DefinitionError: An option is unknown, out of range or has no meaning here; a chain of nothing.
        InvalidInputError: The arguments of a task do not fit.
    """
    painter = Painter(find)
    value, _ = _draw(painter, to_signature(sig))
    return painter.drawing.finish(value, Shapes(1))


# ------------------------------------------------------------------------------------------------------- inside
def _draw(painter: Painter, canvas: Signature) -> tuple[Any, Spine]:
    """Draw a whole canvas; return its result and the shape of that."""
    value, _, spine = painter.draw(canvas, START)
    if not painter.drawing.nodes:
        value = painter.gather([])
    elif isinstance(spine, GroupSpine) and len(spine.members) == 1 and isinstance(spine.members[0], GroupSpine):
        value, spine = value[0], spine.members[0]  # as in Celery: group(a | group(b, c)) gives the inner group
    painter.draw_callbacks()
    return value, spine


_MEMBERS = 4
_LENGTH = 500
_repr = Repr()
_repr.maxstring = _repr.maxother = 60


def text(sig: Signature) -> str:
    """Return a canvas as it is written, in short: long arguments and groups are cut."""
    written = _written(sig)
    return written if len(written) <= _LENGTH else f"{written[: _LENGTH - 3]}..."


def _written(sig: Signature) -> str:
    match sig:
        case chain():
            return " | ".join(_several(sig.tasks))
        case group():
            return f"group({', '.join(_several(sig.tasks))})"
        case chord():
            return f"chord([{', '.join(_several(sig.tasks))}], {_written(sig.behind())})"
        case _ if sig.children():
            return _repr.repr(sig)
        case _:
            args = [_repr.repr(arg) for arg in sig.args]
            args += [f"{key}={_repr.repr(arg)}" for key, arg in sig.kwargs.items()]
            return f"{sig.task}({', '.join(args)})"


def _several(tasks: Sequence[Signature]) -> list[str]:
    written = [_written(task) for task in tasks[:_MEMBERS]]
    return written if len(tasks) <= _MEMBERS else [*written, f"... {len(tasks) - _MEMBERS} more"]
