"""The catalogue as clients are told it, encoded once."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET
from pydantic import BaseModel, ConfigDict, Field

from millstream.authoring.documents.catalogue import Catalogue
from millstream.model.component import Component, ComponentKind, JobInput, Port, PortType


class ShownPort(BaseModel):
    """Where a value enters or leaves a component."""

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    type: PortType
    description: str
    schema_: Annotated[dict[str, Any], Field(alias="schema", description="JSON schema of the values it takes.")] = {}
    default: Annotated[Any, Field(description="What it takes where nothing is set; absent: the task decides.")] = None
    is_required: Annotated[bool, Field(description="Whether it needs a value or an edge.")]
    is_many: Annotated[bool, Field(description="Whether several edges may end there.")]
    is_fixed: Annotated[bool, Field(description="Whether only the document can set it.")]
    is_inner: Annotated[bool, Field(description="Whether it is linked with a loop's own nodes.")]
    is_secret: Annotated[bool, Field(description="Whether its value leaves the server in no file.")]
    source: Annotated[JobInput | None, Field(description="What of a job's inputs fills it where no edge ends.")] = None


_PORT: Final[dict[str, Any]] = {
    "name": "text",
    "title": "Text",
    "type": "text",
    "description": "What is to be shouted.",
    "schema": {"type": "string"},
    "is_required": True,
    "is_many": False,
    "is_fixed": False,
    "is_secret": False,
    "is_inner": False,
}
_COMPONENT: Final[dict[str, Any]] = {
    "name": "shop.shout",
    "title": "Shout",
    "group": "Tasks",
    "icon": "megaphone",
    "description": "Say it louder.",
    "kind": "task",
    "inputs": [_PORT],
    "outputs": [_PORT | {"name": "result", "title": "Result", "description": "", "schema": {}, "is_required": False}],
    "input_type": "",
    "output_type": "",
    "is_open": False,
}


class ShownComponent(BaseModel):
    """What a node of a flow document can be."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_COMPONENT]})

    name: str
    title: str
    group: str
    icon: str
    description: str
    kind: ComponentKind
    inputs: list[ShownPort]
    outputs: list[ShownPort]
    input_type: str
    output_type: str
    is_open: Annotated[bool, Field(description="Whether inputs of any name may be set.")]


class Shown(NamedTuple):
    """An answer, encoded, and its ETag."""

    content: bytes
    etag: str


@lru_cache(maxsize=4)
def shown(catalogue: Catalogue) -> Shown:
    """Return what is answered to who asks for a catalogue: its components by group and name."""
    groups: dict[str, dict[str, Any]] = {}
    for component in catalogue:
        groups.setdefault(component.group, {})[component.name] = _component(component)
    content = msgspec.json.encode(groups, order="sorted")
    return Shown(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _component(component: Component) -> dict[str, Any]:
    told = msgspec.structs.asdict(component)
    del told["task"]
    return told | {
        "inputs": [_port(port) for port in component.inputs],
        "outputs": [_port(port) for port in component.outputs],
    }


def _port(port: Port) -> dict[str, Any]:
    told = msgspec.structs.asdict(port)
    del told["path"]
    return {name: value for name, value in told.items() if value is not UNSET}
