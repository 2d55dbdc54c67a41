"""Makes the classes of the tasks that decorators make of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from millstream.compat._state import is_current
from millstream.compat.app.models import Models, with_models
from millstream.compat.app.task import Task

if TYPE_CHECKING:  # an app makes tasks
    from millstream.compat.app.base import Celery


def adopt(task: Task, app: Celery) -> None:
    """Let a shared task be of the class of the current app's tasks, unless it was given one of its own."""
    made = type(task)
    if made.follows_app and is_current(app) and made.__bases__ != (app.Task,):
        made.__bases__ = (app.Task,)


def task_class(base: type[Task], fn: Callable[..., Any], app: Celery | None, options: dict[str, Any]) -> type[Task]:
    """Return a class for the task that is made of a function.

    Args:
        base: What it derives from.
        fn: The function.
        app: The app that it belongs to; `None` for all.
        options: `name`, `bind`, `pydantic` and its options, and any attribute of a task.
    """
    given = dict(options)
    binds = bool(given.pop("bind", False))
    settings = {key: given.pop(f"pydantic_{key}", None) for key in ("strict", "context", "dump_kwargs")}
    body, models = fn, None
    if given.pop("pydantic", False):
        models = Models(
            fn,
            binds=binds,
            strict=bool(settings["strict"]),
            context=settings["context"] or {},
            dump=settings["dump_kwargs"] or {},
        )
        body = with_models(fn, models, binds=binds, celery_app=app, celery_task_name=given["name"])
    return type(
        fn.__name__,
        (base,),
        {
            "run": body if binds else staticmethod(body),
            "__module__": fn.__module__,
            "__doc__": fn.__doc__,
            "_app": app,
            "_models": models,
            "_origin": staticmethod(fn),
            **given,
        },
    )
