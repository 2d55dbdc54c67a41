"""The tasks of visual flows, written as a user would write them; `load` gives them to an app."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple

from millstream.authoring.registry import Registry
from millstream.model.component import Component
from millstream.model.names import DOCUMENTS

_MODULES: Final = ("chat", "example", "files", "json_values", "logic", "patterns", "prompt", "text", "web")
_NEEDS: Final[Mapping[str, str]] = {"prompt": "jinja2", "web": "httpx"}
"""Packages that tasks of a module need, and which come with an extra."""

EXTRA: Final = "server"
"""The extra of these packages."""


class Library(NamedTuple):
    """The library as it can be used here.

    Attributes:
        components: What its tasks look like on a canvas.
        missing: The names of further components, each with the extra to install for it.
    """

    components: tuple[Component, ...]
    missing: Mapping[str, str]


def load(registry: Registry) -> Library:
    """Let an app know the tasks of the library, and run documents; return the tasks' components.

    From now on the app takes up jobs of flow documents. Tasks whose package is not installed are left out.

    Raises:
        DuplicateNameError: The app knows another task of one of these names.
    """
    from millstream.library.components import described  # noqa: PLC0415  it imports all tasks

    absent = {module for module, package in _NEEDS.items() if find_spec(package) is None}
    for module in _MODULES:
        if module not in absent:
            registry.load(f"{__name__}.{module}")
    registry.claim_keys.add(DOCUMENTS)
    every = list(described())
    missing = [component for component in every if _module_of(component) in absent]
    return Library(
        components=tuple(component for component in every if component not in missing),
        missing={component.name: EXTRA for component in missing},
    )


def _module_of(component: Component) -> str:
    return component.task.removeprefix(f"{__name__}.").partition(".")[0]
