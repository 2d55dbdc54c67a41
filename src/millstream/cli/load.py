"""Finds what the command line names: files and modules, and the tasks and flows in them."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition, Registry, Source
from millstream.authoring.task import Task
from millstream.cli.exits import LoadError
from millstream.cli.places import place_of, shown
from millstream.errors import DefinitionError, SettingsError, UnknownNameError


class NoModuleError(LoadError):
    """Raised when there is no module of the given name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A file or module, and maybe a name in it, as the command line writes them: `FILE[:NAME]`, `pkg.mod[:NAME]`.

    Attributes:
        source: The file or module.
        name: The flow, task or app in it.
    """

    source: str
    name: str | None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read the written form.

        >>> Target.parse("shop/flows.py:nightly")
        Target(source='shop/flows.py', name='nightly')
        """
        source, colon, name = text.rpartition(":")
        return cls(source, name or None) if colon else cls(text, None)

    @property
    def is_file(self) -> bool:
        """Whether the source is written as a file; a package is named as a module, also where its directory is here."""
        path = Path(self.source)
        is_other_directory = path.is_dir() and not (path / "__init__.py").exists()
        return self.source.endswith(".py") or os.sep in self.source or is_other_directory


def load_module(target: Target) -> ModuleType:
    """Import a target's file or module.

    A file is imported under its real name, with the directory that it (or its package) lies in first on `sys.path`: the
    processes of the pool find its tasks by that name.

    Raises:
        LoadError: There is none, or it fails while it is imported; the message says where and why.
        SettingsError: It makes an app, and a setting is wrong.
    """
    if not target.is_file:
        if not all(part.isidentifier() for part in target.source.split(".")):
            raise LoadError(f"{target.source!r} is neither a Python file (.py) nor the name of a module")
        _put_first(Path.cwd())
        return _import(target.source, target)
    path = _existing_file(target.source)
    name, root = path.stem, path.parent
    while (root / "__init__.py").exists():
        name, root = f"{root.name}.{name}", root.parent
    if "." in path.stem:
        raise LoadError(f"{target.source}: a module's name has no dot; rename the file")
    _put_first(root)
    module = _import(name.removesuffix(".__init__"), target)
    if not module.__file__ or not path.samefile(module.__file__):
        other = module.__file__ or "Python itself"
        raise LoadError(f"{target.source}: {other} is imported under the name {name!r} already; rename the file")
    return module


def find(target: Target) -> Definition:
    """Return the flow or task that a target names; without a name the only flow, or where there is none the only task.

    Raises:
        LoadError: It cannot be loaded, or what is meant is not there or not clear; the message lists what there is.
        SettingsError: It makes an app, and a setting is wrong.
    """
    module = load_module(target)
    own = own_definitions(module)
    if target.name is not None:
        found = getattr(module, target.name, None)
        if isinstance(found, Task | Flow):
            return found
        named = [definition for definition in own.values() if definition.name == target.name]
        return named[0] if named else _no_such(target, own)
    flows = {name: known for name, known in own.items() if isinstance(known, Flow)}
    candidates = flows or own
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not own:
        raise LoadError(f"{target.source} defines no flow and no task")
    kind = f"{len(flows)} flows" if flows else f"no flow, but {len(own)} tasks"
    first = next(iter(candidates))
    raise LoadError(f"{target.source} has {kind}: {', '.join(candidates)}; name one, as in {target.source}:{first}")


def own_definitions(module: ModuleType) -> dict[str, Definition]:
    """Return the flows and tasks that a module defines itself, by the name that they have in it."""
    found: dict[str, Definition] = {}
    for name, value in vars(module).items():
        is_here = isinstance(value, Task | Flow) and vars(value).get("__module__", module.__name__) == module.__name__
        if is_here and not any(value is known for known in found.values()):
            found[name] = value
    return found


def known_definitions(app: str | None, imports: Iterable[str]) -> Registry:
    """Return all that an app knows, or a module or file defines, and what the setting `imports` names.

    Args:
        app: `module[:attr]` or `FILE[:attr]`; without the attribute an app named `app` is taken, if there is one, and
            of a package without any that of its module `celery`, as Celery does.
        imports: Modules.

    Raises:
        LoadError: Something cannot be loaded, or the attribute is no app.
        DuplicateNameError: Two different definitions have one name.
        SettingsError: A module of `imports` does not exist.
    """
    registry = Registry()
    for name in imports:
        _put_first(Path.cwd())
        try:
            registry.scan(_import(name, Target(name, None)))
        except NoModuleError as error:
            raise SettingsError(f"{error} (setting imports)") from None
    if app is not None:
        target = _split(Target.parse(app))
        module = load_module(target)
        if target.name is None and _keeps_app_inside(module):
            module = _import(f"{module.__name__}.celery", target)
        _take_app(registry, module, target)
        registry.scan(module)
    return registry


def _split(target: Target) -> Target:
    """Return `pkg.mod.app`, which Celery's users write where `pkg.mod` is the module, as `pkg.mod:app`."""
    source, _, name = target.source.rpartition(".")
    if not source or target.name or target.is_file or not all(part.isidentifier() for part in source.split(".")):
        return target
    _put_first(Path.cwd())
    try:
        is_module = importlib.util.find_spec(target.source) is not None
    except (ImportError, ValueError):
        is_module = False
    return target if is_module else Target(source, name)


def _keeps_app_inside(module: ModuleType) -> bool:
    """Whether a module is a package that has no app itself, but a module `celery`, where its app then is."""
    has_app = any(isinstance(value, Source) for value in vars(module).values())
    is_package = hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.celery") is not None
    return is_package and not has_app


def _take_app(registry: Registry, module: ModuleType, target: Target) -> None:
    from millstream.app import Millstream  # noqa: PLC0415  the engine: only who asks for an app pays for it

    app = getattr(module, target.name or "app", None)
    extensions = getattr(app, "extensions", None)
    if isinstance(extensions, dict) and isinstance(extensions.get("celery"), Source):  # app is a Flask app
        app = extensions["celery"]
    if isinstance(app, Millstream):
        known: list[Definition] = [*app.registry.flows(), *app.registry.tasks()]
        for definition in known:
            registry.add(definition)
    elif isinstance(app, Source):
        registry.take(app)
    elif target.name is not None:
        raise LoadError(
            f"{target.source} has no app named {target.name!r}; one is made by `{target.name} = Millstream()`"
        )


def _existing_file(source: str) -> Path:
    path = Path(source).resolve()
    if path.is_dir():
        raise LoadError(f"{source} is a directory; name a Python file in it")
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], n=1, cutoff=0.75)
        hint = f"; did you mean {shown(path.parent / near[0])}?" if near else ""
        raise LoadError(f"there is no file {source}{hint}")
    if path.suffix != ".py":
        raise LoadError(f"{source} is not a Python file: its name does not end in .py")
    return path


def _put_first(directory: Path) -> None:
    if sys.path[:1] != [str(directory)]:
        sys.path.insert(0, str(directory))


def _import(name: str, target: Target) -> ModuleType:
    try:
        return importlib.import_module(name)
    except SettingsError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            is_file = Path(f"{target.source}.py").exists()
            hint = f"; did you mean {target.source}.py?" if is_file else ""
            raise NoModuleError(f"there is no module {name}{hint}") from None
        raise LoadError(_failed(error, target)) from error
    except (Exception, SystemExit) as error:
        raise LoadError(_failed(error, target)) from error


def _failed(error: BaseException, target: Target) -> str:
    """Say in one line how an import failed."""
    place = place_of(error) or target.source
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, DefinitionError | UnknownNameError):
        return f"{place}: {words}"
    return f"{place}: {type(error).__name__}: {words}" if words else f"{place}: {type(error).__name__}"


def _no_such(target: Target, own: dict[str, Definition]) -> Definition:
    if not own:
        raise LoadError(f"{target.source} defines no flow and no task")
    near = difflib.get_close_matches(target.name or "", own, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(own)}"
    raise LoadError(f"{target.source} has no flow or task {target.name!r}{hint}")
