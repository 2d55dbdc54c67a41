"""`task_routes`: which queue and priority a task has, by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from re import Pattern
from typing import TYPE_CHECKING, Any

from millstream.compat.exceptions import ImproperlyConfigured

if TYPE_CHECKING:  # an app has routes
    from millstream.compat.app.base import Celery


def route(app: Celery, name: str) -> dict[str, Any]:
    """Return the `queue` and `priority` that `task_routes` gives a task.

    The setting is a dict of names, globs (`feeds.*`) or compiled patterns to a queue's name or a dict of options; a
    list of (name, options) pairs; a function `(name, args, kwargs, options, task=None)` that returns either, or `None`;
    or a list of these. The first that fits counts. Arguments are not known where a route is asked for: functions get
    none.

    Raises:
        ImproperlyConfigured: It is none of these.
    """
    for router in _routers(app.conf.task_routes):
        found = router(name, (), {}, {}, task=app.tasks.get(name) if name in app.known else None)
        if found is not None:
            options = {"queue": found} if isinstance(found, str) else dict(found)
            return {key: options[key] for key in ("queue", "priority") if key in options}
    return {}


def _routers(routes: Any) -> list[Callable[..., Any]]:
    if routes is None:
        return []
    if isinstance(routes, Mapping):
        return [_by_name(routes.items())]
    if callable(routes):
        return [routes]
    if isinstance(routes, list | tuple):
        if routes and all(isinstance(item, list | tuple) and len(item) == 2 for item in routes):  # noqa: PLR2004  pairs
            return [_by_name(routes)]
        return [router for item in routes for router in _routers(item)]
    raise ImproperlyConfigured(f"task_routes is {routes!r}; it must be a dict, a list, or a function, not its name")


def _by_name(pairs: Iterable[Any]) -> Callable[..., Any]:
    known = list(pairs)

    def find(name: str, *_: Any, **__: Any) -> Any:
        return next((options for pattern, options in known if _fits(pattern, name)), None)

    return find


def _fits(pattern: str | Pattern[str], name: str) -> bool:
    return fnmatchcase(name, pattern) if isinstance(pattern, str) else pattern.match(name) is not None
