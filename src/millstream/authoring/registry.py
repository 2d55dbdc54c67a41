"""The tasks and flows that an app knows, by name, and the plain functions of the modules that it imports."""

from __future__ import annotations

import difflib
import importlib
import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from types import FunctionType, ModuleType
from typing import Any, Final

from millstream.authoring.flow import Flow
from millstream.authoring.members import OWN
from millstream.authoring.task import Task
from millstream.errors import DuplicateNameError, UnknownNameError
from millstream.model.names import imported_module, public_module

Definition = Task[Any, Any] | Flow

_LIBRARY: Final = "millstream.library."
"""How the names of the tasks of millstream's own library begin."""

_MOST_NEAR: Final = 3


class Moment(StrEnum):
    """What a worker goes through."""

    STARTS = "starts"
    READY = "ready"
    STOPS = "stops"
    ENDED = "ended"


class Source(ABC):
    """Something at the top level of a module that has tasks of its own, such as an app of `millstream.compat`.

    Its tasks are found by name in this process, wherever they were defined and whatever they are called.
    """

    def __init__(self) -> None:
        """Let its tasks be found."""
        _sources.add(self)

    @abstractmethod
    def definitions(self) -> Iterable[Definition]:
        """Return all its tasks, importing what it has yet to import."""

    @abstractmethod
    def definition(self, name: str) -> Definition | None:
        """Return the task of a name, if there is one."""

    def settings(self) -> Mapping[str, object]:
        """Return the settings that it brings, by name: they count more than the environment's where its tasks run."""
        return {}

    @abstractmethod
    def stand_in(self, celery_app: Any) -> None:
        """Let a Celery app whose worker runs its tasks know them by name, where Celery itself may be asked for one.

        Args:
            celery_app: A `celery.Celery`.
        """

    @abstractmethod
    def working(self, moment: Moment) -> None:
        """Take note of what the worker goes through that runs its tasks."""


_sources: Final[weakref.WeakSet[Source]] = weakref.WeakSet()


class Registry:
    """Definitions by name. One name means one definition.

    Attributes:
        sources: What else has tasks of its own, and was taken.
        claim_keys: What else than definitions the jobs can be of that are run here (see `model.names.claim_key`).
    """

    def __init__(self) -> None:
        """Start empty."""
        self._known: dict[str, Definition] = {}
        self._functions: dict[str, FunctionType] = {}
        self._made: dict[str, Task[Any, Any]] = {}
        self.sources: list[Source] = []
        self.claim_keys: set[str] = set()

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

    def adopt(self, other: Registry) -> None:
        """Take all that another registry has.

        Raises:
            DuplicateNameError: Two different definitions have one name.
        """
        for definition in other._known.values():
            self.add(definition)
        self._functions.update(other._functions)
        self.claim_keys |= other.claim_keys
        self.sources += [source for source in other.sources if source not in self.sources]

    def scan(self, module: ModuleType) -> None:
        """Take the definitions that stand at the top level of a module, and its plain functions.

        Raises:
            DuplicateNameError: Two different ones have one name.
        """
        for value in vars(module).values():
            if isinstance(value, Task | Flow):
                self.add(value)
            elif isinstance(value, Source):
                self.take(value)
            elif _is_function_of(module, value):
                self._functions[_name(value)] = value

    def take(self, source: Source) -> None:
        """Take the definitions of a source.

        Raises:
            DuplicateNameError: Two different ones have one name.
        """
        if source not in self.sources:
            self.sources.append(source)
            for definition in source.definitions():
                self.add(definition)

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
        if (found := _in_source(name)) is not None:
            return found
        matches = [known for known in self._known if known.rpartition(".")[2] == name]
        if len(matches) == 1:
            return self._known[matches[0]]
        near = sorted(matches)[:_MOST_NEAR] or self._near(name)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(f"no task or flow is named {name!r}{hint}")

    def _near(self, name: str) -> list[str]:
        """Return the names that are most like one, or whose last parts are."""
        whole = difflib.get_close_matches(name, self._known, _MOST_NEAR)
        ends = difflib.get_close_matches(name, {known.rpartition(".")[2] for known in self._known}, _MOST_NEAR)
        return whole or sorted(known for known in self._known if known.rpartition(".")[2] in ends)[:_MOST_NEAR]

    def work(self, name: str) -> Definition:
        """Return a definition by its whole name; also one that no import named, if its module is imported.

        A plain function of a module that an import named is made a task. A task of the library is imported when it is
        asked for: recorded graphs of documents name them.

        Raises:
            UnknownNameError: There is none.
        """
        found = self._known.get(name) or OWN.get(name) or self._made_of(name) or _found(name) or _of_library(name)
        if found is None:
            raise UnknownNameError(f"no task or flow is named {name!r} here; is its module among the imports?")
        return found

    def task_of(self, function: Any) -> Task[Any, Any] | None:
        """Return the task that is made of a plain function at the top level of a module that an import named.

        Others find such a function by its name, too. `None` for any other callable.
        """
        if not isinstance(function, FunctionType) or self._functions.get(_name(function)) is not function:
            return None
        return self._made_of(_name(function))

    def names(self) -> Collection[str]:
        """Return the names of all definitions."""
        return self._known.keys()

    def runnable(self) -> Collection[str]:
        """Return the names of all that can be run here by its name: definitions and plain functions."""
        return self._known.keys() | self._functions.keys()

    def claimable(self) -> Collection[str]:
        """Return the claim keys of all whose jobs can be run here: `runnable` ones, and millstream's own tasks."""
        return {*self._known, *self._functions, *OWN, *self.claim_keys}

    def flows(self) -> list[Flow]:
        """Return the flows, by name."""
        return [known for _, known in sorted(self._known.items()) if isinstance(known, Flow)]

    def tasks(self) -> list[Task[Any, Any]]:
        """Return the tasks, by name."""
        return [known for _, known in sorted(self._known.items()) if isinstance(known, Task)]

    def _made_of(self, name: str) -> Task[Any, Any] | None:
        """Return the task made of the plain function with a name, the same one each time."""
        function, made = self._functions.get(name), self._made.get(name)
        if function is not None and (made is None or made.fn is not function):
            made = self._made[name] = Task(function)
        return made


def _is_function_of(module: ModuleType, value: Any) -> bool:
    """Whether a value is a plain function that is found in a module under its own name."""
    return (
        isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and vars(module).get(value.__qualname__) is value
        and not (inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value))
    )


def _name(function: FunctionType) -> str:
    return f"{public_module(function.__module__)}.{function.__qualname__}"


def _in_imported_module(name: str) -> Definition | None:
    """Return the definition at `module.qualname`, as definitions are named that were given no other name."""
    found: Any = None
    prefix = name
    while found is None and (prefix := prefix.rpartition(".")[0]):
        found = imported_module(prefix)
    for part in name[len(prefix) + 1 :].split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, Task | Flow) and found.name == name else None


def _of_library(name: str) -> Definition | None:
    """Return a task of millstream's own library, which nobody need import; `None` where its package is not here."""
    if not name.startswith(_LIBRARY):
        return None
    with suppress(ImportError):
        importlib.import_module(name.rpartition(".")[0])
    return _in_imported_module(name)


def _found(name: str) -> Definition | None:
    """Return what this process has under a name though nobody named its module to the app."""
    return _in_imported_module(name) or _in_source(name)


def _in_source(name: str) -> Definition | None:
    """Return the task that a source of this process has."""
    return next((found for source in list(_sources) if (found := source.definition(name)) is not None), None)


def where(definition: Definition) -> str:
    """Return the place of a definition, as `file:line` where there is a source."""
    function = (
        inspect.unwrap(definition.fn) if isinstance(definition, Task) else getattr(definition, "__wrapped__", None)
    )
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(definition)
