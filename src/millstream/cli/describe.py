"""Says what a flow or task is: kind, inputs, place, policy. The same facts for people and for programs."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import msgspec

from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition, where
from millstream.cli.graphs import changes
from millstream.cli.places import shown

_DEFAULT_WIDTH = 24
_DIGEST_LENGTH = 12


class Input(NamedTuple):
    """One input.

    Attributes:
        name: Its name.
        type: Its annotation as it is written, or an empty string.
        default: Its default as Python writes it; `None` where it has none.
    """

    name: str
    type: str
    default: str | None

    @property
    def short(self) -> str:
        """The name, and `=default` where there is one and it is short."""
        if self.default is None:
            return self.name
        return f"{self.name}={self.default if len(self.default) <= _DEFAULT_WIDTH else '…'}"


def kind_of(definition: Definition) -> str:
    """Return what a definition is: a `task`, or a flow that `draws`, `conducts` or was `drawn` in a block."""
    if not isinstance(definition, Flow):
        return "task"
    if definition.conducts:
        return "conducts"
    return "draws" if hasattr(definition, "__wrapped__") else "drawn"


def inputs_of(definition: Definition) -> list[Input]:
    """Return the inputs of a definition, in order."""
    return [
        Input(
            name,
            "" if parameter.annotation is parameter.empty else inspect.formatannotation(parameter.annotation),
            None if parameter.default is parameter.empty else repr(parameter.default),
        )
        for name, parameter in definition.inputs.signature.parameters.items()
    ]


def first_line(definition: Definition) -> str:
    """Return the first line of a definition's docstring."""
    if isinstance(definition, Flow):
        return definition.description
    return (inspect.getdoc(definition.fn) or "").split("\n", 1)[0]


def place(definition: Definition) -> str | None:
    """Return where a definition stands, as `file:line`; `None` for a flow that was drawn in a block."""
    found = where(definition)
    return None if found.startswith("<") else shown(found)


def short_version(definition: Definition) -> str:
    """Return the first digits of a definition's version."""
    return definition.version[:_DIGEST_LENGTH]


def as_data(definition: Definition) -> dict[str, Any]:
    """Return what there is to say of a definition, for programs."""
    return {
        "name": definition.name,
        "kind": kind_of(definition),
        "description": first_line(definition),
        "place": place(definition),
        "version": definition.version,
        "inputs": [item._asdict() | {"required": item.default is None} for item in inputs_of(definition)],
        "policy": msgspec.to_builtins(changes(definition.policy)),
    }
