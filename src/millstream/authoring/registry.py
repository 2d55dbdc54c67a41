"""The tasks and flows that an app knows, by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Collection
from types import ModuleType
from typing import Any

from millstream.authoring.flow import Flow
from millstream.authoring.task import Task
from millstream.errors import DuplicateNameError, UnknownNameError
from millstream.model.names import imported_module

Definition = Task[Any, Any] | Flow


class Registry:
    """Definitions by name. One name means one definition."""

    def __init__(self) -> None:
        """Start empty."""
        self._known: dict[str, Definition] = {}

    def add(self, definition: Definition) -> None:
        """Take a definition; the same one again changes nothing, and a reloaded one replaces its former self.

        Raises:
            DuplicateNameError: Another definition has the name; the message shows both places.
        """
        known = self._known.get(definition.name)
        if known is not None and known is not definition and where(known) != where(definition):
            raise DuplicateNameError(
                f"{definition.name!r} is defined twice: {where(known)} and {where(definition)}; give one another name"
            )
        self._known[definition.name] = definition

    def scan(self, module: ModuleType) -> None:
        """Take the definitions that stand at the top level of a module.

        Raises:
            DuplicateNameError: Two different ones have one name.
        """
        for value in vars(module).values():
            if isinstance(value, Task | Flow):
                self.add(value)

    def load(self, name: str) -> None:
        """Import a module and take its definitions.

        Raises:
            UnknownNameError: There is no such module; what else an import raises comes through.
        """
        try:
            self.scan(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise UnknownNameError(f"there is no module {name!r} to import (setting imports)") from None
            raise

    def get(self, name: str) -> Definition:
        """Return a definition by its name, or by its last part where that is clear.

        Raises:
            UnknownNameError: There is none, or several; the message names those that come near.
        """
        if name in self._known:
            return self._known[name]
        matches = [known for known in self._known if known.rpartition(".")[2] == name]
        if len(matches) == 1:
            return self._known[matches[0]]
        near = matches or difflib.get_close_matches(name, self._known) or sorted(self._known)
        hint = f"; there is {', '.join(near)}" if near else "; none is defined"
        raise UnknownNameError(f"no task or flow is named {name!r}{hint}")

    def work(self, name: str) -> Definition:
        """Return a definition by its whole name; also one that no import named, if its module is imported.

        Raises:
            UnknownNameError: There is none.
        """
        found = self._known.get(name) or _in_imported_module(name)
        if found is None:
            raise UnknownNameError(f"no task or flow is named {name!r} here; is its module among the imports?")
        return found

    def names(self) -> Collection[str]:
        """Return the names of all definitions."""
        return self._known.keys()

    def flows(self) -> list[Flow]:
        """Return the flows, by name."""
        return [known for _, known in sorted(self._known.items()) if isinstance(known, Flow)]

    def tasks(self) -> list[Task[Any, Any]]:
        """Return the tasks, by name."""
        return [known for _, known in sorted(self._known.items()) if isinstance(known, Task)]


def _in_imported_module(name: str) -> Definition | None:
    """Return the definition at `module.qualname`, as definitions are named that were given no other name."""
    found: Any = None
    prefix = name
    while found is None and (prefix := prefix.rpartition(".")[0]):
        found = imported_module(prefix)
    for part in name[len(prefix) + 1 :].split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Task | Flow) and found.name == name else None


def where(definition: Definition) -> str:
    """Return the place of a definition, as `file:line` where there is a source."""
    function = (
        inspect.unwrap(definition.fn) if isinstance(definition, Task) else getattr(definition, "__wrapped__", None)
    )
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(definition)
