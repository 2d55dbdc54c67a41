"""Components: what a node of a flow document can be, described without its code: ports, and what stands there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET

PortType = Literal["any", "text", "number", "boolean", "data", "list", "message"]
"""What passes through a port: text, a number (whole ones too), a truth value, an object by keys (`data`), a list, or a
chat message, which is data with the keys `text`, `sender`, `sender_name`, `session_id` and `files`."""

ComponentKind = Literal["task", "flow", "router", "merge", "loop", "wait", "approval", "subflow"]
"""What stands at a node: a task, a Python flow, a task that chooses a way (`router`), the first input that has a value
(`merge`), a loop that owns other nodes, a wait for a time or for a person, or another flow document (`subflow`)."""

JobInput = Literal["input_value", "session", "files", "payload"]
"""What a job of a document is given, beside tweaks: see `DocumentFlow`."""


class Port(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a value enters or leaves a component.

    Attributes:
        name: Its name; of an input of a task, that of the parameter.
        type: What passes through it; where several edges may end, what each of them brings.
        title: What people read.
        description: One sentence about it.
        schema: Of an input: JSON schema of the values that can be set there.
        default: Of an input: what it takes where nothing is set; `UNSET` leaves that to the task.
        is_required: Of an input: whether it needs a value or an edge.
        is_many: Of an input: whether several edges may end there; it takes the list of what they bring.
        is_fixed: Of an input: whether only the document can set it, and no edge and no tweak.
        is_secret: Of an input: whether its value is a secret, which leaves the server in no file.
        is_inner: Of a port of a loop: whether it is linked with the loop's own nodes.
        source: Of an input: what of the job's inputs fills it where no edge ends.
        path: Of an output: where in the task's result it is; `()` is all of it.
    """

    name: str
    type: PortType = "any"
    title: str = ""
    description: str = ""
    schema: Mapping[str, Any] = {}
    default: Any = UNSET
    is_required: bool = False
    is_many: bool = False
    is_fixed: bool = False
    is_secret: bool = False
    is_inner: bool = False
    source: JobInput | None = None
    path: tuple[str | int, ...] = ()


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node of a flow document can be.

    The task of a `router` returns a pair: the name of the output that is chosen, and the value that leaves there.

    Attributes:
        name: The name by which documents speak of it.
        title: What people read.
        group: Under what it is listed.
        icon: Name of its icon.
        description: One sentence about it.
        inputs: What it takes.
        outputs: What it gives; of a router the ways that it can choose.
        kind: What stands at its node.
        task: Registered name of the task or flow; empty where the engine itself acts.
        input_type: Of what takes the job's `input_value`: for which `input_type` it does, such as `chat` or `text`.
        output_type: Of what belongs to the job's result: what it shows, such as `chat` or `text`.
        is_open: Whether inputs of any name may be set, which its task takes as further arguments by name.
    """

    name: str
    title: str = ""
    group: str = ""
    icon: str = ""
    description: str = ""
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    kind: ComponentKind = "task"
    task: str = ""
    input_type: str = ""
    output_type: str = ""
    is_open: bool = False

    def input(self, name: str) -> Port | None:
        """Return the input of a name; of an open component there is one for every name.

        >>> Component(name="join", is_open=True).input("left").type
        'any'
        """
        found = next((port for port in self.inputs if port.name == name), None)
        return Port(name=name) if found is None and self.is_open else found

    def output(self, name: str) -> Port | None:
        """Return the output of a name."""
        return next((port for port in self.outputs if port.name == name), None)


def fits(given: PortType, wanted: PortType) -> bool:
    """Whether an edge may lead from an output of one type to an input of another: equal ones, and what is `any`.

    A message is data, too.

    >>> fits("message", "data"), fits("text", "number")
    (True, False)
    """
    return given == wanted or "any" in (given, wanted) or (given, wanted) == ("message", "data")
