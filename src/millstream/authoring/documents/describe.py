"""Describes tasks and flows as components: ports from signatures, schemas from annotations, words from docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition
from millstream.errors import DefinitionError
from millstream.model.component import Component, Port, PortType

_TYPES: Final[Mapping[str, PortType]] = {
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "object": "data",
    "array": "list",
}
_Struct = TypeVar("_Struct", Port, Component)
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ARGUMENT = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?: (.+)$")


def component_of(work: Definition, *, ports: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any) -> Component:
    """Describe a task or flow as a component: an input for each parameter, and one output, `result`.

    Args:
        work: The task or flow.
        ports: What to say otherwise of inputs: by name, the fields of `Port`.
        fields: What to say otherwise of the component: fields of `Component`.

    Raises:
        DefinitionError: `ports` names no parameter, or a field is unknown.

    Example:
        >>> from millstream import task
        >>> @task(name="greet")
        ... def greet(name: str, times: int = 1) -> str:
        ...     '''Greet somebody.'''
        ...     return f"Hello {name}" * times
        >>> greeting = component_of(greet, ports={"name": {"title": "Whom"}}, icon="hand")
        >>> [(port.name, port.type, port.title, port.is_required) for port in greeting.inputs]
        [('name', 'text', 'Whom', True), ('times', 'number', 'Times', False)]
        >>> greeting.title, greeting.description, greeting.outputs[0].type
        ('Greet', 'Greet somebody.', 'text')
    """
    signature, hints = work.inputs.signature, work.inputs.hints(extras=True)
    doc = inspect.getdoc(work) or ""
    told = dict(_told(doc))
    changes = dict(ports or {})
    inputs = []
    for name, parameter in signature.parameters.items():
        if parameter.kind not in _MANY:
            port = _port(parameter, hints.get(name, Any), told.get(name, ""))
            inputs.append(_changed(port, changes.pop(name, {}), work.name))
    if changes:
        raise DefinitionError(f"{work.name} has no input {', '.join(sorted(changes))}; it takes {signature}")
    result = schema_of(hints.get("return", Any))
    component = Component(
        name=work.name,
        title=_titled(work.name.rpartition(".")[2]),
        group="Flows" if isinstance(work, Flow) else "Tasks",
        description=doc.partition("\n")[0],
        inputs=tuple(inputs),
        outputs=(Port(name="result", title="Result", type=type_of(result)),),
        kind="flow" if isinstance(work, Flow) else "task",
        task=work.name,
        is_open=any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()),
    )
    return _changed(component, fields, work.name)


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of an annotation; `{}`, which takes anything, where it has none.

    >>> schema_of(list[int])
    {'type': 'array', 'items': {'type': 'integer'}}
    """
    try:
        return {} if hint in (None, Any, inspect.Parameter.empty) else msgspec.json.schema(hint)
    except Exception:  # noqa: BLE001  annotations are users' own, and need not be types at all
        return {}


def type_of(schema: Mapping[str, Any]) -> PortType:
    """Return the type of the port for values of a schema.

    >>> type_of({"anyOf": [{"type": "string"}, {"type": "null"}]}), type_of({})
    ('text', 'any')
    """
    while "$ref" in schema:
        schema = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    kinds = {_TYPES.get(choice.get("type", ""), "any") for choice in schema.get("anyOf", (schema,)) if choice != _NULL}
    return kinds.pop() if len(kinds) == 1 else "any"


_NULL: Final = {"type": "null"}


def _port(parameter: inspect.Parameter, hint: Any, description: str) -> Port:
    schema = schema_of(hint)
    is_required = parameter.default is parameter.empty
    return Port(
        name=parameter.name,
        type=type_of(schema),
        title=_titled(parameter.name),
        description=description,
        schema=schema,
        default=UNSET if is_required else _plain(parameter.default),
        is_required=is_required,
    )


def _plain(default: Any) -> Any:
    """Return a default that documents can show and hold; any other one is left to the task."""
    try:
        read = msgspec.json.decode(msgspec.json.encode(default))
    except (TypeError, ValueError, RecursionError):
        return UNSET
    return read if type(read) is type(default) and read == default else UNSET


def _changed(struct: _Struct, fields: Mapping[str, Any], name: str) -> _Struct:
    unknown = sorted(set(fields) - set(struct.__struct_fields__))
    if unknown:
        raise DefinitionError(f"{name}: a {type(struct).__name__} has no {', '.join(unknown)}")
    return replace(struct, **fields)


def _told(doc: str) -> Iterator[tuple[str, str]]:
    """Yield what the `Args:` of a docstring say of each parameter, in one line."""
    _, _, section = doc.partition("\nArgs:\n")
    told: dict[str, list[str]] = {}
    lines: list[str] = []  # what stands before the first parameter is nobody's
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        if found := _ARGUMENT.match(line):
            lines = told.setdefault(found[1], [found[2]])
        else:
            lines.append(line.strip())
    for name, parts in told.items():
        yield name, " ".join(filter(None, parts))


def _titled(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
