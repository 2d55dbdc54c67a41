"""A moved app on Celery workers: the real Celery app that stands for it, and the settings of ours that it brings."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from millstream.authoring import current
from millstream.authoring.registry import Source
from millstream.compat import _state
from millstream.compat.app.worker import told_by_celery
from millstream.compat.conf import Conf
from millstream.compat.conf_catalogue import BY_WORKERS, SETTINGS
from millstream.errors import DefinitionError, SettingsError

if TYPE_CHECKING:  # the engine: only who runs something pays for it
    from millstream.app import Millstream

_COMMAND: Final = "celery.bin.celery"
"""The module of Celery's command line, which is imported where that runs."""

OF_WORKERS: Final = {
    "task_default_queue": "default_queue",
    "worker_concurrency": "worker_concurrency",
    "worker_max_memory_per_child": "worker_max_memory_per_child",
    "worker_max_tasks_per_child": "worker_max_tasks_per_child",
    "worker_prefetch_multiplier": "worker_prefetch_multiplier",
}
"""Celery's settings of workers, and their names here."""

_REAL: Final = tuple(setting.name for setting in SETTINGS.values() if setting.says == BY_WORKERS)
"""Settings that the real app gets as they are."""


class OnWorkers(Source):
    """What an app of `millstream.compat` is to Celery's own programs.

    Attributes:
        conf: Its settings.
        main: Its name.
    """

    conf: Conf
    main: str | None
    _real: Any = None

    @property  # type: ignore[misc]  # an object may say of what class it is
    def __class__(self) -> type:  # `celery -A` looks for a `celery.Celery` among the names of a module
        if _is_found_by_command():
            return importlib.import_module("celery").Celery  # type: ignore[no-any-return]
        return type(self)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that it brings: with `celery_enabled` those of workers, and its broker if none is set."""
        return brought(self.conf)

    def engine_of_workers(self) -> Millstream:
        """Return the millstream app whose jobs its workers execute.

        Raises:
            SettingsError: A setting is wrong, or there is no broker.
        """
        from millstream.app import Millstream  # noqa: PLC0415  on first use
        from millstream.settings import Settings  # noqa: PLC0415  as above

        given = {**brought(self.conf, is_worker=True), **self.settings(), "celery_enabled": True}
        return Millstream(settings=Settings.load(**given))

    @property
    def celery_app(self) -> Any:
        """The real `celery.Celery` that stands for it: what `celery -A` runs, and `control` asks.

        Its workers execute the jobs of this app's tasks; a message that Celery itself sent for one is handed in as a
        job, under the message's id.

        Raises:
            DefinitionError: The extra `celery` is not installed.
            SettingsError: There is no broker, or a setting is wrong.
        """
        if importlib.util.find_spec("celery") is None:
            raise DefinitionError("app.celery_app needs Celery itself: pip install 'millstream[celery]'")
        if self._real is None:
            self._real = _made(self)
        return self._real

    def stand_in(self, celery_app: Any) -> None:
        """Let a Celery app know the tasks: a message that Celery sent for one becomes a job."""
        for task in self.definitions():
            if task.name not in celery_app.tasks:
                _stand_in(celery_app, self, task.name)

    def worker_main(self, argv: list[str] | None = None) -> None:
        """Run a command of Celery's own program, such as `["worker", "--loglevel=info"]`, on this app.

        Raises:
            DefinitionError: The extra `celery` is not installed.
            SettingsError: There is no broker, or a setting is wrong.
        """
        self.celery_app.worker_main(argv)

    def start(self, argv: list[str] | None = None) -> None:
        """Run Celery's own program on this app; see `worker_main`."""
        self.celery_app.start(argv)


def brought(conf: Conf, *, is_worker: bool = False) -> dict[str, Any]:
    """Return the settings of millstream that a moved app brings: nothing without `celery_enabled`.

    Args:
        conf: The app's settings.
        is_worker: Whether they are for a worker, for which `celery_enabled` is a matter of course.
    """
    from millstream.settings import Settings  # noqa: PLC0415  pydantic: on first use

    given: dict[str, Any] = {"celery_enabled": True} if is_worker else {}
    of_workers: dict[str, Any] = {ours: conf[name] for name, ours in OF_WORKERS.items() if conf.value_set_for(name)}
    try:
        found = Settings.load(**given)
    except SettingsError:  # there is no broker; what else is wrong is told again
        url = conf.broker_url
        return of_workers | ({"broker_url": url if isinstance(url, str) else ";".join(url)} if url else {})
    return of_workers if found.celery_enabled else {}


def default_engine() -> current.App:
    """Make the app in force of a process, with what the current moved app brings."""
    from millstream.app import Millstream  # noqa: PLC0415  on first use
    from millstream.settings import Settings  # noqa: PLC0415  as above

    moved = _state.made_app()
    return Millstream(settings=Settings.load(**(moved.settings() if moved is not None else {})))


def _made(app: OnWorkers) -> Any:
    from celery import signals as real_signals  # noqa: PLC0415  only who runs Celery needs it

    from millstream.backends.celery.app import Seat, make_celery  # noqa: PLC0415  as above
    from millstream.backends.celery.queues import task_queue  # noqa: PLC0415  as above

    program = app.engine_of_workers()
    seat = Seat(program.settings, lambda: program.program)
    changes = {name: app.conf[name] for name in _REAL if app.conf.value_set_for(name)}
    if names := _names(app.conf.task_queues):
        is_amqp = program.settings.effective_broker_url.startswith(("amqp", "pyamqp"))
        changes["task_queues"] = [task_queue(name, is_amqp=is_amqp) for name in names]
    real = make_celery(seat, main=app.main or "tasks", **changes)

    def load(**_: Any) -> None:
        program.registry.take(app)
        app.stand_in(real)

    real_signals.import_modules.connect(load, sender=real, weak=False)
    told_by_celery()
    return real


def _names(queues: Any) -> list[str]:
    """Return the names of queues, as `task_queues` takes them: a dict by name, names, or Kombu's objects."""
    return [str(getattr(queue, "name", queue)) for queue in queues or ()]


def _stand_in(real: Any, app: Any, name: str) -> None:
    """Let a Celery app know a task of a moved one."""

    def hand_in(self: Any, *args: Any, **kwargs: Any) -> None:
        app.tasks[name].apply_async(args, kwargs, task_id=self.request.id)

    real.task(hand_in, name=name, bind=True, ignore_result=True, shared=False, typing=False)


def _is_found_by_command() -> bool:
    """Whether Celery's command line is looking for its app here and now."""
    frame = sys._getframe(2)  # noqa: SLF001  nothing else tells who asks
    return frame.f_code.co_name == "find_app"


def let_command_in() -> None:
    """Let Celery's command line, if that runs here, work with the real app of a moved one.

    It looks for its app by the name of a module, and finds the moved one there.
    """
    command: Any = sys.modules.get(_COMMAND)
    if command is not None and not isinstance(command.CLIContext, partial):
        command.CLIContext = partial(_context, command.CLIContext)


def _context(make: Any, app: Any = None, **options: Any) -> Any:
    return make(app=app.celery_app if isinstance(app, OnWorkers) else app, **options)


current.set_factory(default_engine)
