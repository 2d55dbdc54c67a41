"""What runs in a process of the pool: Celery's tracer, unchanged, around a task that can be killed."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import sys
import types
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, NoReturn

from celery import signals
from celery.app.trace import build_tracer, fast_trace_task, setup_worker_optimizations
from celery.exceptions import SoftTimeLimitExceeded

from millstream.errors import NotSerializableError

_NOT_THEIRS = ("celery", "__main__", "__mp_main__")


class AppPath(NamedTuple):
    """Where a Celery app is found by other processes.

    Attributes:
        module: The module that has it.
        name: Its name there.
        include: What the worker imported on behalf of the app.
    """

    module: str
    name: str
    include: tuple[str, ...]

    @classmethod
    def of(cls, app: Any) -> AppPath:
        """Find where an app of this process is.

        Args:
            app: A Celery app.

        Raises:
            NotSerializableError: No imported module has it as a global.
        """
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", "__main__")
            if name.partition(".")[0] in _NOT_THEIRS:
                continue
            for attribute, value in list(vars(module).items()):
                if value is app:
                    return cls(name, attribute, tuple(app.conf.include))
        raise NotSerializableError(
            f"tasks of the Celery app {app.main!r} cannot run in processes: no imported module has it as a global; "
            "put it in one that can be imported (not in the main file)"
        )


def perform(path: AppPath, module: str, hostname: str, soft: float | None, *args: Any) -> Any:
    """Run a task, and store and publish what follows from it.

    Args:
        path: Where the Celery app is found.
        module: Where the task is defined.
        hostname: The worker's name.
        soft: Seconds of the soft time limit.
        args: What Celery's tracer gets: the task's name, its id, its request and the body of its message.

    Returns:
        What Celery's tracer returned.
    """
    app = _prepare(path, hostname)
    importlib.import_module(module)
    task = app.tasks[args[0]]
    if task.__trace__ is None:
        _adapt(task)
        task.__trace__ = build_tracer(task.name, task, app.loader, hostname, app=app)
    _limits[:] = [soft]
    return fast_trace_task(*args)


_prepared: dict[AppPath, Any] = {}
_limits: list[float | None] = [None]


def _prepare(path: AppPath, hostname: str) -> Any:
    """Return the app, made ready as Celery's own pool does it in its processes."""
    if path not in _prepared:
        app = getattr(importlib.import_module(path.module), path.name)
        for name in path.include:
            app.loader.import_task_module(name)
        app.loader.init_worker_process()
        setup_worker_optimizations(app, hostname)
        level, file = os.environ.get("CELERY_LOG_LEVEL"), os.environ.get("CELERY_LOG_FILE")
        redirect = bool(os.environ.get("CELERY_LOG_REDIRECT"))
        to_level = os.environ.get("CELERY_LOG_REDIRECT_LEVEL", "WARNING")
        app.log.setup(int(level or 0), file or None, redirect, to_level, hostname=hostname)
        signals.worker_process_init.send(sender=None)
        _prepared[path] = app
    return _prepared[path]


def _adapt(task: Any) -> None:
    """Let the soft time limit interrupt the task's own function, and nothing around it."""
    name = "_orig_run" if hasattr(task, "_orig_run") else "run"
    setattr(task, name, _limited(getattr(task, name)))


def _limited(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        soft, _limits[0] = _limits[0], None
        if soft is not None:
            signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, soft)
        try:
            value = function(*args, **kwargs)
            return asyncio.run(value) if inspect.iscoroutine(value) else value
        finally:
            if soft is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)

    return call


def _interrupt(_signal: int, _frame: types.FrameType | None) -> NoReturn:
    raise SoftTimeLimitExceeded
