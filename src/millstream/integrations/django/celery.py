"""The app with Celery's names of a Django project, and its tasks, which leave no stale connection behind."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.db import close_old_connections, transaction

from millstream.app import Millstream
from millstream.authoring.registry import Definition, Registry
from millstream.compat import Celery, Task
from millstream.integrations.config import settings_of
from millstream.integrations.hosted import HostedTask, hosted
from millstream.settings import Settings


class DjangoTask(HostedTask):
    """A task that closes connections of Django's that are too old or broken, before it runs and after.

    One that is called directly or eagerly leaves them alone: they are the caller's.
    """

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Call `delay` when the transaction commits; outside of one at once, after a rollback never."""
        transaction.on_commit(partial(self.delay, *args, **kwargs))

    def apply_async_on_commit(self, *args: Any, **options: Any) -> None:
        """Call `apply_async` when the transaction commits; outside of one at once, after a rollback never."""
        transaction.on_commit(partial(self.apply_async, *args, **options))

    @contextmanager
    def block(self) -> Iterator[None]:
        """Close old connections of this thread, before and after."""
        if self._is_callers:
            yield
            return
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()

    @asynccontextmanager
    async def async_block(self) -> AsyncIterator[None]:
        """Close old connections of the thread in which Django runs queries for coroutines, before and after."""
        if self._is_callers:
            yield
            return
        await sync_to_async(close_old_connections)()
        try:
            yield
        finally:
            await sync_to_async(close_old_connections)()

    @property
    def _is_callers(self) -> bool:
        return bool(self.request.called_directly or self.request.is_eager)


class DjangoCelery(Celery):
    """The app with Celery's names of a Django project: `apps.get_app_config("millstream").celery`.

    Its settings are the keys `CELERY_…` of the project's, its tasks those of the modules `tasks` of its apps.

    Raises:
        ImproperlyConfigured: One of Celery's settings is wrong.
        SettingsError: One of millstream's is.
    """

    def __init__(self) -> None:
        super().__init__((settings.SETTINGS_MODULE or "django").partition(".")[0], task_cls=DjangoTask)
        self.config_from_object("django.conf:settings", namespace="CELERY", force=True)
        config = {name: getattr(settings, name) for name in dir(settings) if name.isupper()}
        self._given = settings_of(config, self.conf)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that the project's bring."""
        return self._given

    def engine_of_workers(self) -> Millstream:
        """Return the app whose jobs a worker executes.

        Raises:
            SettingsError: A setting is wrong, or there is no broker.
        """
        return Millstream(settings=Settings.load(**{**self._given, "celery_enabled": True}))

    def definitions(self) -> Iterator[Definition]:
        """Return all tasks, and the tasks and flows of the apps' modules that have none of Celery's names."""
        yield from super().definitions()
        for name in self.modules():
            registry = Registry()
            registry.scan(sys.modules[name])
            yield from registry.flows()
            yield from registry.tasks()

    def modules(self) -> list[str]:
        """Return the names of the apps' modules of tasks."""
        found = (f"{config.name}.tasks" for config in apps.get_app_configs())
        return [name for name in found if name in sys.modules]

    def _made(self, fn: Callable[..., Any], *, base: type[Task] | None = None, **options: Any) -> Any:
        return super()._made(fn, base=hosted(base, DjangoTask), **options)
