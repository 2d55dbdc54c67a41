"""Puts what one job is given into the slots of a document's graph: its inputs and its tweaks, each checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from millstream.authoring.documents.drawing import Compiled, Place
from millstream.authoring.documents.nodes import port_problem, value_problem
from millstream.authoring.documents.plain import Problem, below, limit_problems, raise_all, shown

_ANY = "any"


class Given(NamedTuple):
    """The inputs of one job; see `DocumentFlow`."""

    input_value: Any
    input_type: Any
    session: Any
    tweaks: Any
    files: Any
    payload: Any

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Self:
        """Return the inputs of a job that are known by name, defaults included."""
        return cls(**inputs)

    def values(self, compiled: Compiled, tweaks: Mapping[Place, Any]) -> tuple[Any, ...]:
        """Return the values of all slots: tweaks count most, then the job's inputs, then the document.

        Raises:
            DocumentError: An input does not fit a node that takes it.
        """
        values = list(compiled.values)
        problems: list[Problem] = []
        for source, fills in compiled.fills.items():
            value = getattr(self, source)
            if value is None or (source == "input_value" and value == ""):
                continue
            for fill in fills:
                if source == "input_value" and self.input_type not in (_ANY, fill.input_type):
                    continue
                if what := value_problem(fill.port, value):
                    problems.append((source, what))
                values[fill.slot] = value
        raise_all(dict.fromkeys(problems))
        for place, value in tweaks.items():
            values[compiled.slots[place]] = value
        return tuple(values)


def tweaks_of(tweaks: Any, compiled: Compiled) -> dict[Place, Any]:
    """Return the tweaks of a job by the inputs that they are meant for.

    Raises:
        DocumentError: A tweak names no node or no input, or what cannot be set, or its value does not fit.
    """
    if not tweaks:
        return {}
    found: dict[Place, Any] = {}
    raise_all(_read(tweaks, compiled, found))
    return found


def _read(tweaks: Any, compiled: Compiled, found: dict[Place, Any]) -> Iterator[Problem]:
    if not isinstance(tweaks, Mapping):
        yield "tweaks", "they are written as {node id or label: {input: value}}"
        return
    if wrong := list(limit_problems(dict(tweaks), "tweaks")):
        yield from wrong
        return
    labels: dict[str, list[str]] = {}
    for whole, node in compiled.nodes.items():
        labels.setdefault(node.label, []).append(whole)
    for name, values in tweaks.items():
        where = below("tweaks", name)
        named = [name] if name in compiled.nodes else labels.get(name, [])
        if len(named) != 1:
            yield (
                where,
                "there is no node of this id or label"
                if not named
                else (f"{len(named)} nodes have this label; use an id"),
            )
        elif not isinstance(values, Mapping):
            yield where, f"{shown(values)} is no object of inputs"
        else:
            for key, value in values.items():
                place = (named[0], key)
                if what := _problem(place, value, compiled):
                    yield below(where, key), what
                found[place] = value


def _problem(place: Place, value: Any, compiled: Compiled) -> str | None:
    """Return why a value cannot be set at an input for one job."""
    component = compiled.nodes[place[0]].component
    port = component.input(place[1])
    if port is None:
        return f"{component.name} has no such input; it has {', '.join(shown(port.name) for port in component.inputs)}"
    if place in compiled.linked:
        return "an edge ends at this input, so nothing can be set there"
    if port.is_fixed:
        return "only the document can set this input"
    return port_problem(component, port) or value_problem(port, value)
