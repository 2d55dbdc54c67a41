"""The Celery app whose workers execute jobs, and which users register their own Celery tasks with.

    celery -A millstream.worker worker --loglevel=info --concurrency=4

It is made from the settings when it is first asked for: importing this module imports no Celery and reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from millstream.app import Millstream
from millstream.errors import SettingsError
from millstream.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

    celery_app: Celery

__all__ = ["celery_app", "make_celery_app"]

_NAMES = ("app", "celery_app")  # `celery -A` looks for the first


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


@cache
def _celery_app() -> Celery:
    settings = Settings.load(celery_enabled=True)
    return make_celery_app(settings, lambda: Millstream(settings=settings))


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return _celery_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
