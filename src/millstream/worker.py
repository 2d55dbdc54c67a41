"""The Celery app whose workers execute jobs, and which users register their own Celery tasks with.

    celery -A millstream.worker worker --loglevel=info --concurrency=4

It is made from the settings when it is first asked for: importing this module imports no Celery and reads nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from millstream.app import Millstream
from millstream.errors import SettingsError
from millstream.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    celery_app: Celery

__all__ = ["celery_app", "celery_tasks", "default_celery_app", "make_celery_app"]

_NAMES = ("app", "celery_app")  # `celery -A` looks for the first
_EX_CONFIG = 78

_made: list[Any] = []
"""The one `celery_app` of this process, once it was asked for: tasks register with it while their modules load."""


def make_celery_app(settings: Settings, program: Callable[[], Millstream], **changes: Any) -> Celery:
    """Return a Celery app whose workers execute the jobs of an app of ours.

    Args:
        settings: The settings.
        program: Returns the app; called once, in a worker, when the modules of tasks are imported.
        changes: Further settings of Celery, by their names in lower case.

    Raises:
        SettingsError: There is no broker, or Celery is not installed.

    Example:
        >>> from millstream import Millstream, Settings
        >>> settings = Settings(celery_enabled=True, redis_url="redis://localhost:6379/0")
        >>> make_celery_app(settings, lambda: Millstream(settings=settings)).conf.task_default_queue
        'celery'
    """
    try:
        from millstream.backends.celery.app import Seat, make_celery  # noqa: PLC0415  on first use
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("celery", "kombu", "greenlet"):
            raise
        raise SettingsError('workers need Celery; install it with pip install "millstream[celery]"') from error
    return make_celery(Seat(settings, lambda: program().program), **changes)


def default_celery_app(settings: Settings, program: Callable[[], Millstream]) -> Celery:
    """Return `celery_app`, by these settings and for this app: the one that modules of tasks have imported, or will.

    Args:
        settings: As for `make_celery_app`.
        program: As for `make_celery_app`.

    Raises:
        SettingsError: As for `make_celery_app`.
    """
    if not _made:
        _made.append(make_celery_app(settings, program))
    else:
        from millstream.backends.celery.app import Seat, give_seat  # noqa: PLC0415  it was imported before

        give_seat(_made[0], Seat(settings, lambda: program().program))
    return _made[0]


def celery_tasks() -> list[str]:
    """Return the names of the tasks that users have registered with `celery_app`."""
    if not _made:
        return []
    from millstream.backends.celery.steps import users_tasks  # noqa: PLC0415  Celery was imported before

    return users_tasks(_made[0])


def __getattr__(name: str) -> Any:
    if name in _NAMES and not _made:
        try:
            settings = Settings.load(celery_enabled=True)
            _made.append(make_celery_app(settings, lambda: Millstream(settings=settings)))
        except SettingsError as error:
            if not _is_wanted_by_command():
                raise
            for line in f"{error}".splitlines():  # Celery's program would show where in our code that was found
                print(f"millstream: {line}", file=sys.stderr)  # noqa: T201  it is that program's answer
            raise SystemExit(_EX_CONFIG) from error
    if name in _NAMES:
        return _made[0]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_wanted_by_command() -> bool:
    """Whether Celery's command line is looking for its app, here or in a module that imports it."""
    frame = sys._getframe()  # noqa: SLF001  nothing else tells who asks
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "find_app" and frame.f_globals.get("__name__") == "celery.app.utils":
            return True
    return False
