"""The Python flows of the loaded app, as the API shows them: read-only, with the schema of their inputs."""

from __future__ import annotations

import inspect
from typing import Any, Final
from uuid import UUID, uuid5

from msgspec import UNSET

from millstream.authoring.documents.describe import component_of
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Registry

_NAMESPACE: Final = UUID("5f7a4ff1-6c0e-5c5b-8a52-0f6f5a0f8a3b")
"""Of the ids that Python flows have in URLs, where a flow's id has to be a UUID."""


def id_of(name: str) -> str:
    """Return the id by which the API speaks of a Python flow: the same wherever the flow is loaded.

    >>> id_of("shop.order") == id_of("shop.order") != id_of("shop.enquiry")
    True
    """
    return str(uuid5(_NAMESPACE, name))


def python_flow(registry: Registry, flow_id: str) -> Flow | None:
    """Return the Python flow that has an id; `None` where none has."""
    return next((flow for flow in registry.flows() if id_of(flow.name) == flow_id), None)


def python_flow_as_data(flow: Flow) -> dict[str, Any]:
    """Return a Python flow as clients are told it: as `ShownPythonFlow`."""
    return {
        "id": id_of(flow.name),
        "name": flow.name,
        "description": (inspect.getdoc(flow) or "").partition("\n\n")[0],
        "is_read_only": True,
        "inputs": inputs_schema(flow),
    }


def inputs_schema(flow: Flow) -> dict[str, Any]:
    """Return the JSON schema of a flow's inputs: an object with a property for each of its parameters.

    Example:
        >>> from millstream import flow
        >>> @flow
        ... def order(items: list[str], rebate: float = 0.0): ...
        >>> inputs_schema(order)["required"], inputs_schema(order)["properties"]["rebate"]
        (['items'], {'type': 'number', 'default': 0.0})
    """
    component = component_of(flow)
    properties = {
        port.name: {**port.schema} if port.default is UNSET else {**port.schema, "default": port.default}
        for port in component.inputs
    }
    required = [port.name for port in component.inputs if port.is_required]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": component.is_open,
    }
