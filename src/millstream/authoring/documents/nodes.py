"""What the values and the policy of one node may be, given its component."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.plain import Problem, below, shown
from millstream.authoring.documents.schemas import mismatch
from millstream.errors import DefinitionError
from millstream.model.component import Component, Port
from millstream.model.policy import Policy

POLICIES: Final = (
    "retries",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "timeout",
    "soft_timeout",
    "expires",
    "priority",
)
"""What documents may say of how a task is run. What is left out is the code's own affair (`run_in`, `effect`), or text
that something would look into: `retry_for` names classes, `idempotency_key` is a format string, and the name of a
`queue` is that of a key where Redis is the broker."""

_LIMITS: Final = ("timeout", "soft_timeout")
"""Where a task sets these, they keep it from holding others up: documents may lower them."""

_OPEN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")


def value_problems(component: Component, values: Mapping[str, Any], where: str) -> Iterator[Problem]:
    """Yield what is wrong with the values that are set at a node."""
    for name, value in values.items():
        port = component.input(name)
        if port is None:
            yield (
                below(where, name),
                "flow documents hold no code"
                if name == "code"
                else no_port(component, "input", component.inputs, name),
            )
            continue
        what = port_problem(component, port) or value_problem(port, value)
        if what is not None:
            yield below(where, name), what


def port_problem(component: Component, port: Port) -> str | None:
    """Return why nothing can be set at an input, or linked with it, whatever its name says; `None` if something can."""
    if port.is_inner:
        return "it takes an edge from a node in the loop, and no value"
    if port in component.inputs or _OPEN_NAME.fullmatch(port.name):
        return None
    return "a further input has a name of 1 to 50 letters, digits and '_', and begins with a letter"


def value_problem(port: Port, value: Any) -> str | None:
    """Return what is wrong with a value at an input; `None` where it fits. What is the default always fits."""
    return None if port.schema == {} or _is_default(port, value) else mismatch(value, port.schema)


def _is_default(port: Port, value: Any) -> bool:
    return type(value) is type(port.default) and bool(value == port.default)


def no_port(component: Component, what: str, ports: Sequence[Port], name: str) -> str:
    """Return a sentence that a component has no port of a name, and which ones it has."""
    known = ", ".join(shown(port.name) for port in ports)
    return f"{component.name} has no {what} {shown(name)}" + (f"; it has {known}" if known else "")


def policy_of(catalogue: Catalogue, component: Component, changes: Mapping[str, Any]) -> Policy | None:
    """Return how the task of a component is run with changes; `None` without any.

    Raises:
        DefinitionError: There is no task, or a policy cannot be set in a document or is out of range.
    """
    if not changes:
        return None
    if not component.task:
        raise DefinitionError(f"{component.name} has no policy: there is no task at it")
    unknown = sorted(shown(name) for name in set(changes) - set(POLICIES))
    if unknown:
        raise DefinitionError(f"documents cannot set {', '.join(unknown)}; they can set {', '.join(POLICIES)}")
    work = catalogue.work(component)
    policy = work.revised(dict(changes))
    for name in _LIMITS:
        most, wanted = getattr(work.policy, name), getattr(policy, name)
        if most is not None and (wanted is None or wanted > most):
            raise DefinitionError(f"{name} can be {most:g} seconds at most, as the task of {component.name} says")
    return policy
