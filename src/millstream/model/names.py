"""The names by which another process finds what a module defines."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_MAIN = ("__main__", "__mp_main__")
"""Names of the program's own file: in the program, and in the processes that it starts."""

DOCUMENTS: Final = "millstream.documents"
"""The claim key of all jobs whose flow is a document."""

_DOCUMENT: Final = "flow:"
_UUID_LENGTH: Final = 36


def document_name(flow_id: str) -> str:
    """Return the name of the flow that a stored document is.

    >>> document_name("0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f")
    'flow:0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f'
    """
    return _DOCUMENT + flow_id


def document_id(flow: str) -> str | None:
    """Return the id of the stored document that a flow is, given its name; `None` for any other flow.

    >>> document_id("flow:0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"), document_id("shop.report")
    ('0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f', None)
    """
    return flow.removeprefix(_DOCUMENT) if claim_key(flow) == DOCUMENTS else None


def claim_key(flow: str) -> str:
    """Return the name that a process must know to claim the jobs of a flow or task.

    It is the flow's own, but for documents: what their jobs execute is recorded with them, and the tasks that it names
    are the library's, so any process that has the library can.

    >>> claim_key("shop.report"), claim_key(document_name("0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"))
    ('shop.report', 'millstream.documents')
    """
    return DOCUMENTS if flow.startswith(_DOCUMENT) and len(flow) == len(_DOCUMENT) + _UUID_LENGTH else flow


def public_module(module: str) -> str:
    """Return the name under which other processes import a module: the program's own file has one beside `__main__`.

    So `python report.py` and `millstream run report.py` name the same flow, and either goes on with what the other
    left. A notebook, a prompt and an installed program have no such file, and stay `__main__`.

    >>> public_module("shop.flows")
    'shop.flows'
    """
    file = getattr(sys.modules.get(module), "__file__", None) if module in _MAIN else None
    return _imported_as(file) if file is not None and file.endswith(".py") else module


def imported_module(name: str) -> ModuleType | None:
    """Return the module with a public name if it is imported already."""
    return sys.modules["__main__"] if name == public_module("__main__") else sys.modules.get(name)


def find_class(name: str) -> type:
    """Return the class with a public name, `module:qualname`.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such name.
        TypeError: It is no class.
    """
    module, _, qualname = name.partition(":")
    found: Any = imported_module(module) or importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no class")
    return found


@lru_cache
def _imported_as(file: str) -> str:
    """Return a file's name as a module, with the packages that it lies in."""
    path = Path(file).absolute()
    parts = [path.stem]
    while (path.parent / "__init__.py").exists():
        path = path.parent
        parts.insert(0, path.name)
    return ".".join(parts)
