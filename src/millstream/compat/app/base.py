"""`Celery`: an application's tasks and settings, under Celery's names, on millstream's engine."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from threading import RLock
from typing import Any, Final, Self, overload

from millstream.authoring.canvas.signature import Signature
from millstream.authoring.registry import Definition, Moment
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.group_result import GroupResult, ResultSet
from millstream.compat import _state, signals
from millstream.compat._state import performing
from millstream.compat.app.control import Control
from millstream.compat.app.door import Door
from millstream.compat.app.finding import django_apps, import_related, imported, listed
from millstream.compat.app.making import adopt, task_class
from millstream.compat.app.naming import gen_task_name
from millstream.compat.app.registry import TaskRegistry
from millstream.compat.app.task import Task as TaskBase
from millstream.compat.app.times import zone
from millstream.compat.app.worker import working
from millstream.compat.app.workers import OnWorkers, let_command_in
from millstream.compat.conf import Conf, NotYetWarning
from millstream.compat.dispatch import Signal
from millstream.compat.exceptions import DuplicateTaskNameWarning, ImproperlyConfigured

_NO_MESSAGES: Final = frozenset(
    {"amqp", "backend_cls", "control_cls", "events", "fixups", "loader", "log", "log_cls", "registry_cls"}
)


class Celery(OnWorkers):
    """An application: its tasks by name, and its settings. Tasks run on millstream: here, or on Celery workers.

    Args:
        main: What stands for the module in the names of tasks of the program's own file.
        broker: `conf.broker_url`: the broker, with `celery_enabled`, where millstream's settings name none.
        backend: `conf.result_backend`: kept and shown.
        include: Modules to import in a worker.
        config_source: An object, a dict or the name of a module to read settings from.
        set_as_current: Make it the current app.
        autofinalize: Finish the app on first use; without, `finalize()` must be called before.
        namespace: What stands before the names of settings in `config_source`.
        task_cls: The class of tasks, in place of `Task`.
        strict_typing: Kept: arguments are always checked when a task is called.
        changes: Settings.
        others: Settings by name; what belongs to messages (`amqp`, `loader` …) means nothing here.

    Example:
        >>> from millstream.compat import Celery
        >>> app = Celery("shop", broker="redis://localhost/0")
        >>> @app.task(bind=True, name="shop.add")
        ... def add(self, x: int, y: int) -> int:
        ...     return x + y
        >>> add.delay(2, 3).get(timeout=10)
        5
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] | None = None,
        config_source: Any = None,
        set_as_current: bool = True,
        autofinalize: bool = True,
        namespace: str | None = None,
        task_cls: type[TaskBase] | str | None = None,
        strict_typing: bool = True,
        changes: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        let_command_in()
        self.main = main
        self.autofinalize = autofinalize
        self.strict_typing = strict_typing
        self.finalized = False
        self.conf = Conf(namespace)
        self.known = TaskRegistry()
        self.door = Door(self)
        self.control = Control(self)
        self.on_configure = Signal(name="app.on_configure")
        self.on_after_configure = Signal({"source"}, name="app.on_after_configure")
        self.on_after_finalize = Signal(name="app.on_after_finalize")
        self._task_cls = task_cls
        self._lock = RLock()
        self._discoveries: list[Callable[[], None]] = []
        given = {"broker_url": broker, "result_backend": backend, "include": include, **(changes or {}), **others}
        self.conf.update({k: v for k, v in given.items() if v is not None and k not in _NO_MESSAGES})
        if config_source is not None:
            self.conf.read_later(config_source)
        self.conf.after_reading(lambda source: self.on_after_configure.send(self, source=source))
        if set_as_current:
            self.set_current()

    # ---------------------------------------------------------------------------------------------------- tasks
    @property
    def Task(self) -> type[TaskBase]:
        """The class of this app's tasks."""
        found = imported(self._task_cls) if isinstance(self._task_cls, str) else self._task_cls
        return found or TaskBase

    @Task.setter
    def Task(self, kind: type[TaskBase]) -> None:
        self._task_cls = kind

    @overload
    def task(self, fn: Callable[..., Any], /) -> TaskBase: ...
    @overload
    def task(self, **options: Any) -> Callable[[Callable[..., Any]], TaskBase]: ...
    def task(self, *args: Any, **options: Any) -> Any:
        """Make a task of a function; a decorator, with or without options.

        Args:
            args: The function, where the decorator is used without options.
            options: `name`, `bind` (let the function take the task first), `base` (its class), `pydantic` (and
                `pydantic_strict, pydantic_context, pydantic_dump_kwargs`: models as arguments and result), `filter`,
                any attribute of `Task`, and any policy of `millstream.task`. `shared` and `lazy` mean nothing here.

        Raises:
            TypeError: More than one function is given, or something else.
        """
        if len(args) == 1 and callable(args[0]):
            return self._made(args[0], **options)
        if args:
            raise TypeError(f"@task() takes one function, and options by name, not {args!r}")
        return lambda fn: self._made(fn, **options)

    def _made(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        base: type[TaskBase] | None = None,
        filter: Callable[[TaskBase], Any] | None = None,
        shared: bool = True,  # noqa: ARG002  see `task`
        lazy: bool = True,  # noqa: ARG002  see `task`
        **options: Any,
    ) -> Any:
        name = name or self.gen_task_name(fn.__name__, fn.__module__)
        made = task_class(base or self.Task, fn, self, {**options, "name": name})()
        registered = self._register(made)
        return filter(registered) if filter is not None else registered

    def register_task(self, task: TaskBase | type[TaskBase], **options: Any) -> TaskBase:
        """Register a class-based task, given as an object or as its class; return the object."""
        made = task() if isinstance(task, type) else task
        for name, value in options.items():
            setattr(made, name, value)
        type(made).bind(self)
        return self._register(made, is_newer=True)

    def _register(self, task: TaskBase, *, is_newer: bool = False) -> TaskBase:
        known = self.known.get(task.name)
        if known is not None and known is not task and not known.is_same_as(task):
            kept = "the new one" if is_newer else "the first one"
            warnings.warn(
                f"two tasks of this app are named {task.name!r}; {kept} is kept. Give one of them another name",
                DuplicateTaskNameWarning,
                stacklevel=4,
            )
            if not is_newer:
                return known
        if task.rate_limit is not None:
            warnings.warn(
                f"rate_limit of {task.name} is not there yet: global limits bring it", NotYetWarning, stacklevel=4
            )
        self.known[task.name] = task
        if self.finalized:
            self._annotate(task)
        return task

    def gen_task_name(self, name: str, module: str | None) -> str:
        """Return the name of a task that has none of its own."""
        return gen_task_name(self, name, module)

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name."""
        self.finalize(auto=True)
        return self.known

    def finalize(self, auto: bool = False) -> None:
        """Finish the app: take the tasks of `shared_task`, and what `task_annotations` says. Done on first use.

        Raises:
            RuntimeError: The app was used before `finalize()`, and `autofinalize` is off.
        """
        with self._lock:
            for task in _state.shared():
                self.known.setdefault(task.name, task)
                adopt(task, self)
            if self.finalized:
                return
            if auto and not self.autofinalize:
                raise RuntimeError("this app has autofinalize=False: call app.finalize() before its tasks are used")
            self.finalized = True
            for task in list(self.known.values()):
                self._annotate(task)
        self.on_after_finalize.send(self)

    def _annotate(self, task: TaskBase) -> None:
        """Set the attributes that `task_annotations` gives a task."""
        annotations = self.conf.task_annotations or ()
        for annotation in annotations if isinstance(annotations, list | tuple) else (annotations,):
            for key in ("*", task.name):
                found = annotation.get(key) if isinstance(annotation, Mapping) else annotation.annotate(task)
                for name, value in (found or {}).items():
                    setattr(task, name, value.__get__(task) if callable(value) else value)

    # ------------------------------------------------------------------------------------------- finding tasks
    def definitions(self) -> Iterator[Definition]:
        """Return all tasks, those of the modules in `include` and `imports` and of `autodiscover_tasks` too."""
        self.load()
        yield from self.tasks.values()

    def definition(self, name: str) -> Definition | None:
        """Return a task by its name."""
        return self.tasks.get(name)

    def working(self, moment: Moment) -> None:
        """Send the signals of a worker."""
        working(self, moment)

    def load(self) -> None:
        """Import the modules of `include` and `imports`, and what `autodiscover_tasks` is to find."""
        signals.import_modules.send(self)
        for module in (*listed(self.conf.include), *listed(self.conf.imports)):
            importlib.import_module(module)
        while self._discoveries:
            self._discoveries.pop(0)()

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import the module `tasks` of each package that has one: in a worker, or at once with `force`.

        Args:
            packages: The packages, or a function that returns them; without, Django's installed apps.
            related_name: Name of the module; `None` imports the packages themselves.
            force: Import at once.
        """

        def discover() -> None:
            found = packages() if callable(packages) else django_apps() if packages is None else packages
            for package in found:
                import_related(package, related_name)

        self._discoveries.append(discover)
        if force:
            while self._discoveries:
                self._discoveries.pop(0)()

    # -------------------------------------------------------------------------------------------------- settings
    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from an object, a dict, or a module by its name.

        Args:
            obj: The source.
            silent: Take a module that is not there for an empty one.
            force: Read at once, and not when a setting is asked for.
            namespace: What stands before the names, such as `CELERY`.
        """
        if namespace is not None:
            self.conf.set_namespace(namespace)
        self.conf.read_later(obj, silent=silent)
        if force:
            len(self.conf)

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Read settings from the module that an environment variable names; return whether it names one.

        Raises:
            ImproperlyConfigured: It is not set.
        """
        module = os.environ.get(variable_name)
        if not module:
            if silent:
                return False
            raise ImproperlyConfigured(f"the environment variable {variable_name} must name a module of settings")
        self.config_from_object(module, silent=silent, force=force)
        return True

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Take settings that count less than all others."""
        self.conf.add_defaults(defaults)

    # ----------------------------------------------------------------------------------------- calls and results
    def send_task(
        self, name: str, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit a task by its name, and return its `AsyncResult`.

        Raises:
            NotRegistered: No task is known by the name: the process that submits must have the code of the task too.
        """
        self.load()
        return self.signature(name, args, kwargs).apply_async(**options)

    def signature(self, varies: Any, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature that runs on this app; see `millstream.compat.signature`."""
        made = Signature.from_dict(varies) if isinstance(varies, Mapping) else Signature(varies, *args, **kwargs)
        made._app = self.door  # noqa: SLF001  the one place that binds a signature to an app after it was made
        return made

    def AsyncResult(self, id: str, *_args: Any, **_options: Any) -> AsyncResult:
        """Return the result of a task by its id."""
        return AsyncResult(id, app=self)

    def GroupResult(self, id: str, results: Iterable[Any] | None = None, **_options: Any) -> GroupResult:
        """Return the results of a group by its id."""
        return GroupResult(id, results or (), app=self)

    def ResultSet(self, results: Iterable[Any], **_options: Any) -> ResultSet:
        """Return several results as one."""
        return ResultSet(results, app=self)

    @property
    def current_task(self) -> TaskBase | None:
        """The task that runs here."""
        return performing.get()

    # ---------------------------------------------------------------------------------------------------- itself
    def set_current(self) -> None:
        """Make it the current app."""
        _state.set_current_app(self)

    set_default = set_current

    def close(self) -> None:
        """Let go of the current app's place."""
        if _state.is_current(self):
            _state.set_current_app(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def now(self) -> datetime:
        """Return the time, in the zone of the settings."""
        return datetime.now(zone(self.conf)).astimezone(zone(self.conf))

    @property
    def timezone(self) -> Any:
        """The zone of the settings; `None` is the machine's own."""
        return zone(self.conf)

    def add_periodic_task(self, schedule: Any, sig: Any, *_args: Any, **_options: Any) -> str:
        """Warn that schedules are not there yet; return the name that Celery would give the entry."""
        warnings.warn(
            f"periodic tasks are not there yet: {sig!r} does not run by {schedule!r} until schedules bring it",
            NotYetWarning,
            stacklevel=2,
        )
        return repr(sig)

    def __repr__(self) -> str:
        """Return a form that names the app."""
        return f"<Celery {self.main or '__main__'}>"
