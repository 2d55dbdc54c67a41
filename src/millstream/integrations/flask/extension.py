"""`FlaskMillstream`: the extension, as Flask's users know extensions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final, overload
from weakref import WeakSet

import click
from flask import Blueprint, Flask
from flask.cli import ScriptInfo

from millstream.compat import Task
from millstream.compat.app.making import task_class
from millstream.compat.app.naming import gen_task_name
from millstream.errors import DefinitionError
from millstream.integrations.flask.celery import FlaskCelery, FlaskTask, celery_here
from millstream.integrations.flask.command import command
from millstream.integrations.flask.engine import NAME, FlaskEngine
from millstream.integrations.flask.pages import pages
from millstream.integrations.hosted import hosted

_APP: Final = "FLASK_APP"
"""The environment variable that names the Flask app, as Flask itself reads it."""


class FlaskMillstream:
    """Tasks and flows for Flask apps, which run in the app's context.

    Each Flask app has a millstream app of its own, `app.extensions["millstream"]`, and an app with Celery's names,
    `app.extensions["celery"]`. Without a broker in `app.config`, tasks run in the process itself; a broker is the
    switch that moves them to workers.

    Args:
        app: A Flask app; an application factory calls `init_app` instead.

    Raises:
        Exception: What `init_app` raises.

    Example:
        >>> from flask import Flask, current_app
        >>> app = Flask("shop")
        >>> app.config["GREETING"] = "hello"
        >>> ext = FlaskMillstream(app)
        >>> @ext.task(name="shop.greet")
        ... def greet(name: str) -> str:
        ...     return f"{current_app.config['GREETING']} {name}"
        >>> greet.delay("tea").get(timeout=10)
        'hello tea'
    """

    main: str | None = None  # tasks of a program's own file are named by the file

    def __init__(self, app: Flask | None = None) -> None:
        self._tasks: list[Task] = []
        self._known: WeakSet[FlaskCelery] = WeakSet()
        self._last: FlaskCelery | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Fit a Flask app out, by what its `config` says now.

        Args:
            app: The Flask app, with its configuration.

        Raises:
            DefinitionError: It has such an extension already.
            ImproperlyConfigured: One of Celery's settings is wrong.
            SettingsError: One of millstream's is.
        """
        for name in (NAME, "celery"):
            if name in app.extensions:
                raise DefinitionError(
                    f"Flask app {app.name!r} has app.extensions[{name!r}] already; call init_app once, and leave the "
                    "making of a Celery app to it"
                )
        celery = FlaskCelery(app)
        app.extensions[NAME], app.extensions["celery"] = celery.engine, celery
        for task in self._tasks:
            celery.adopt(task)
        self._known.add(celery)
        self._last = celery
        _tell_processes()
        app.cli.add_command(command(celery))

    # ---------------------------------------------------------------------------------------------- its parts
    @property
    def celery(self) -> FlaskCelery:
        """The app with Celery's names: of the Flask app whose context or task this is, else of the last one.

        Raises:
            DefinitionError: There is no Flask app yet.
        """
        here = celery_here()
        if here is not None and here in self._known:
            return here
        if self._last is None and _APP in os.environ:  # in a process of the pool, which imports no more than a task
            ScriptInfo(os.environ[_APP]).load_app()
        if self._last is None:
            raise DefinitionError(
                "this FlaskMillstream has no Flask app here: call init_app(app); for tasks with "
                f"run_in='process', name the app in the environment variable {_APP} as well"
            )
        return self._last

    @property
    def engine(self) -> FlaskEngine:
        """The millstream app, of the same Flask app as `celery`.

        Raises:
            DefinitionError: There is no Flask app yet.
        """
        return self.celery.engine

    @overload
    def task(self, fn: Callable[..., Any], /) -> Task: ...
    @overload
    def task(self, **options: Any) -> Callable[[Callable[..., Any]], Task]: ...
    def task(self, *args: Any, **options: Any) -> Any:
        """Make a task of a function; a decorator, with or without options, also before there is a Flask app.

        Args:
            args: The function, where the decorator is used without options.
            options: As `Celery.task` takes them: `name`, `bind`, `max_retries`, `run_in`, `timeout` …

        Raises:
            TypeError: Something other than one function is given.
            DefinitionError: An option is out of range.
        """
        if len(args) == 1 and callable(args[0]):
            return self._made(args[0], **options)
        if args:
            raise TypeError(f"@ext.task() takes one function, and options by name, not {args!r}")
        return lambda fn: self._made(fn, **options)

    def _made(
        self, fn: Callable[..., Any], *, name: str | None = None, base: type[Task] | None = None, **options: Any
    ) -> Task:
        name = name or gen_task_name(self, fn.__name__, fn.__module__)
        kind = hosted(base, FlaskTask) or FlaskTask
        task: Task = task_class(kind, fn, None, {**options, "name": name, "extension": self})()
        self._tasks.append(task)
        for celery in self._known:
            celery.adopt(task)
        return task

    def blueprint(
        self, task: Task, *, name: str = NAME, inputs: Callable[[dict[str, Any]], Mapping[str, Any]] = dict
    ) -> Blueprint:
        """Return pages that start a task, and tell how tasks stand: `POST /run-task`, `GET /task-status/<id>`.

        `POST /run-task` takes a JSON object, by default the task's arguments by name, and answers with 202 and
        `{"task_id", "status": "Task started"}`; what is no JSON object or does not fit the task is answered with 400.
        `GET /task-status/<id>` answers with `{"task_id", "status", "result"}`, where the result of what failed is
        `{"type", "message"}` of its error, and with 404 for an id that nobody knows.

        Args:
            task: The task to start.
            name: The blueprint's name; two blueprints of one app need different ones.
            inputs: Makes the task's arguments by name of the object; what it raises as `KeyError`, `TypeError` or
                `ValueError` is answered with 400.

        Example:
            >>> from flask import Flask
            >>> app = Flask("pages")
            >>> ext = FlaskMillstream(app)
            >>> @ext.task(name="pages.double")
            ... def double(n: int) -> int:
            ...     return 2 * n
            >>> app.register_blueprint(ext.blueprint(double), url_prefix="/tasks")
            >>> app.test_client().post("/tasks/run-task", json={"n": 4}).status_code
            202
        """
        return pages(lambda: self.celery, task, name, inputs)


def _tell_processes() -> None:
    """Let the processes of the pool find the Flask app that `flask --app` names."""
    context = click.get_current_context(silent=True)
    if context is not None and isinstance(context.obj, ScriptInfo) and context.obj.app_import_path:
        os.environ.setdefault(_APP, context.obj.app_import_path)
