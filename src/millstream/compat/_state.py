"""Which app is the current one, which task runs here, and what `shared_task` made: Celery's module-level state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # both need this module
    from millstream.compat.app.base import Celery
    from millstream.compat.app.task import Task

_lock = threading.Lock()
_apps: Final[dict[str, Celery]] = {}
_shared: Final[dict[str, Task]] = {}
_make: Final[list[Callable[[], Celery]]] = []
_finders: Final[list[Callable[[], Celery | None]]] = []

performing: Final[ContextVar[Task | None]] = ContextVar("millstream_compat_task", default=None)
"""The task that runs here."""


def set_factory(make: Callable[[], Celery]) -> None:
    """Say how an app is made where a program uses tasks without one."""
    _make[:] = [make]


def look_for(find: Callable[[], Celery | None]) -> None:
    """Let a function say which app is the current one here, such as that of the web request."""
    if find not in _finders:
        _finders.append(find)


def get_current_app() -> Celery:
    """Return what a finder finds, or the app that was made the current one last; without any, one made for this."""
    known = _found() or _apps.get("current")
    if known is None:
        known = _make[0]()
        set_current_app(known)
    return known


def made_app() -> Celery | None:
    """Return the current app, if the program has made one."""
    with _lock:
        return _apps.get("current")


def set_current_app(app: Celery | None) -> None:
    """Make an app the current one."""
    with _lock:
        if app is None:
            _apps.pop("current", None)
        else:
            _apps["current"] = app


def is_current(app: Celery) -> bool:
    """Return whether an app is the current one here."""
    return (_found() or _apps.get("current")) is app


def _found() -> Celery | None:
    """Return what a finder finds."""
    return next((found for find in _finders if (found := find()) is not None), None)


def share(task: Task) -> Task:
    """Give a task to all apps, those of the future too; return the one that has its name."""
    with _lock:
        known = _shared.get(task.name)
        if known is not None and known.is_same_as(task):
            _shared[task.name] = task
        return _shared.setdefault(task.name, task)


def shared() -> list[Task]:
    """Return the tasks that belong to all apps."""
    with _lock:
        return list(_shared.values())


class Proxy:
    """Stands for something that is looked up at each use.

    Args:
        find: Looks it up.
    """

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:
        return object.__getattribute__(self, "_find")()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __repr__(self) -> str:
        """Return the form of what it stands for."""
        return repr(self._get_current_object())


current_app: Any = Proxy(get_current_app)
"""The current app."""

current_task: Any = Proxy(performing.get)
"""The task that runs here; false, and without attributes, where none does."""
