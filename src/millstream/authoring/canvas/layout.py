"""Layout: how a canvas becomes one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from millstream.authoring.canvas.signature import Signature
from millstream.authoring.draw import Drawn, Shapes
from millstream.engine.program import Work


class TaskSpine(msgspec.Struct, frozen=True, tag="task"):
    """What an `AsyncResult` is made of.

    Attributes:
        node: The node's id.
        parent: What came before it in its chain.
    """

    node: str
    parent: TaskSpine | GroupSpine | None = None


class GroupSpine(msgspec.Struct, frozen=True, tag="group"):
    """What a `GroupResult` is made of.

    Attributes:
        members: Its members, in order.
        parent: What came before it in its chain.
        id: The task id that the group was given; empty for none.
    """

    members: tuple[TaskSpine | GroupSpine, ...]
    parent: TaskSpine | GroupSpine | None = None
    id: str = ""


Spine = TaskSpine | GroupSpine
"""The shape of what `apply_async` returns: of a chain the last task with its parents, of a chord its body."""


class Layout(msgspec.Struct, frozen=True):
    """A canvas as one graph, ready to be submitted.

    Attributes:
        drawn: The graph with its values and its code.
        spine: The shape of what `apply_async` returns.
        aliases: The task ids that were given, each with the id of its node.
        flow: The name of the first task.
        text: The canvas as it is written, in short.
        options: What the canvas as a whole says about its job: `countdown, eta, expires, priority`.
    """

    drawn: Drawn
    spine: Spine
    aliases: Mapping[str, str]
    flow: str
    text: str
    options: Mapping[str, Any]


def lay_out(sig: Signature, find: Callable[[str], Work], shapes: Shapes | None = None) -> Layout:
    """Return a canvas as one graph.

    Args:
        sig: A signature of any type.
        find: Returns the task or flow of a name; asked for those that a signature knows by name only.
        shapes: Where to keep the compiled graph; most submissions draw the same shape again.

    Raises:
        UnknownNameError: A task or flow is not known.
        DefinitionError: An option is unknown, out of range or has no meaning here; a chain of nothing.
        InvalidInputError: The arguments of a task do not fit.
    """
    raise NotImplementedError
