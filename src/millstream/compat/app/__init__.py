"""An application and its parts, as `celery.app` has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from millstream.compat import _state
from millstream.compat._state import current_app as default_app
from millstream.compat.app.base import Celery
from millstream.compat.app.making import adopt, task_class
from millstream.compat.app.naming import gen_task_name
from millstream.compat.app.task import Task

__all__ = ["Celery", "Task", "app_or_default", "default_app", "shared_task"]


def app_or_default(app: Celery | None = None) -> Celery:
    """Return an app, or the current one."""
    return app if app is not None else _state.get_current_app()


@overload
def shared_task(fn: Callable[..., Any], /) -> Task: ...
@overload
def shared_task(**options: Any) -> Callable[[Callable[..., Any]], Task]: ...
def shared_task(*args: Any, **options: Any) -> Any:
    """Make a task that belongs to every app, for packages that have none of their own; a decorator.

    Args:
        args: The function, where the decorator is used without options.
        options: As `Celery.task` takes them.

    Raises:
        TypeError: Something other than one function is given.

    Example:
        >>> from millstream.compat import shared_task
        >>> @shared_task(name="shop.double")
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double.delay(4).get(timeout=10)
        8
    """
    if len(args) == 1 and callable(args[0]):
        return _shared(args[0], **options)
    if args:
        raise TypeError(f"@shared_task() takes one function, and options by name, not {args!r}")
    return lambda fn: _shared(fn, **options)


def _shared(fn: Callable[..., Any], *, name: str | None = None, base: type[Task] | None = None, **options: Any) -> Task:
    for meaningless in ("shared", "lazy"):
        options.pop(meaningless, None)
    if name is None:
        name = gen_task_name(_state.get_current_app(), fn.__name__, fn.__module__)
    task = _state.share(task_class(base or Task, fn, None, {**options, "name": name, "follows_app": base is None})())
    app = _state.made_app()
    if app is not None and app.finalized:
        adopt(task, app)  # others take it over when they are finished
    return task


_state.set_factory(lambda: Celery("default", set_as_current=False))
