"""What a call of a task or flow means where it is made: it draws a node, is recorded by a conductor, or just runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millstream.authoring.conduct import Conductor
from millstream.authoring.draw import Drawing, NodeOptions, drawing
from millstream.engine.context import running
from millstream.engine.program import Work
from millstream.errors import DefinitionError
from millstream.model.graph import NodeKind

NOT_HERE = object()
"""Says that neither a flow is being drawn nor one conducts here."""


def place(
    kind: NodeKind,
    work: Work,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: NodeOptions,
    *,
    is_map: bool = False,
) -> Any:
    """Add a node to the drawing or a call to the conductor here; return its handle, coroutine, or `NOT_HERE`."""
    here = drawing.get()
    if here is not None:
        return _add(here, kind, work, args, kwargs, options, is_map=is_map)
    conductor = running.get()
    if isinstance(conductor, Conductor):
        return conductor.call(lambda inner: _add(inner, kind, work, args, kwargs, options, is_map=is_map))
    return NOT_HERE


def is_in_flow() -> bool:
    """Whether a flow is being drawn or conducts here."""
    return drawing.get() is not None or isinstance(running.get(), Conductor)


def _add(
    target: Drawing,
    kind: NodeKind,
    work: Work,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    options: NodeOptions,
    *,
    is_map: bool,
) -> Any:
    add = target.add_map if is_map else target.add_work
    return add(kind, work, args, kwargs, options)


def need_flow(what: str) -> Drawing | Conductor:
    """Return the drawing or conductor here.

    Raises:
        DefinitionError: There is neither.
    """
    here = drawing.get()
    if here is not None:
        return here
    conductor = running.get()
    if isinstance(conductor, Conductor):
        return conductor
    raise DefinitionError(f"{what} has a meaning only in the body of a flow")
