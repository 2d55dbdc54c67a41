"""The names by which another process finds what a module defines."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def public_module(module: str) -> str:
    """Return the name under which other processes import a module: the program's own file has one beside `__main__`.

    So `python report.py` and `millstream run report.py` name the same flow, and either goes on with what the other
    left. A notebook or a prompt has no file, and stays `__main__`.

    >>> public_module("shop.flows")
    'shop.flows'
    """
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # python -m shop.report
        return str(spec.name)
    return _imported_as(Path(file)) if file is not None else module


def public_name(kind: type) -> str:
    """Return a class as `module:qualname`, as other processes find it.

    >>> public_name(Path)
    'pathlib:Path'
    """
    return f"{public_module(kind.__module__)}:{kind.__qualname__}"


def find_module(name: str) -> ModuleType:
    """Return the module with a public name; it is imported if need be.

    Raises:
        ImportError: There is none.
    """
    if name == public_module("__main__"):
        return sys.modules["__main__"]
    return importlib.import_module(name)


def find_class(name: str) -> type:
    """Return the class with a public name, `module:qualname`.

    Raises:
        ImportError: There is no such module.
        AttributeError: The module has no such name.
        TypeError: It is no class.
    """
    module, _, qualname = name.partition(":")
    found: Any = find_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no class")
    return found


def _imported_as(file: Path) -> str:
    """Return a file's name as a module, with the packages that it lies in."""
    path = file.absolute()
    parts = [path.stem]
    while (path.parent / "__init__.py").exists():
        path = path.parent
        parts.insert(0, path.name)
    return ".".join(parts)
