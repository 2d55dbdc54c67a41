"""The app with Celery's names of one Flask app, and its tasks, which run in the Flask app's context."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flask import Flask

from millstream.authoring import current
from millstream.compat import Celery, Task, _state
from millstream.compat.conf_catalogue import NAMES
from millstream.engine.context import running
from millstream.errors import DefinitionError
from millstream.integrations.config import settings_of
from millstream.integrations.flask.engine import FlaskEngine, engine_here
from millstream.integrations.hosted import HostedTask, hosted

if TYPE_CHECKING:  # which makes these
    from millstream.integrations.flask.extension import FlaskMillstream

_CELERYS: Final = ("CELERY_", "CELERYD_", "CELERYBEAT_")


class FlaskTask(HostedTask):
    """A task that runs in the context of its Flask app, each run in one of its own."""

    extension: ClassVar[FlaskMillstream | None] = None
    """What made it, where it belongs to each Flask app of an extension."""

    @property
    def app(self) -> Celery:
        """The app that it belongs to."""
        return super().app if self.extension is None else self.extension.celery

    def block(self) -> AbstractContextManager[Any]:
        """Return the Flask app's context."""
        return self.flask_app.app_context()

    @asynccontextmanager
    async def async_block(self) -> AsyncIterator[Any]:
        """Return the Flask app's context, for a coroutine."""
        with self.flask_app.app_context() as context:
            yield context

    @property
    def flask_app(self) -> Flask:
        """The Flask app in whose context it runs.

        Raises:
            DefinitionError: This process has none.
        """
        app = self.app
        if isinstance(app, FlaskCelery):
            return app.flask_app
        raise DefinitionError(
            f"{self.name} runs in the context of a Flask app, and the current app of Celery's names is of none: "
            "make the Flask app last, or give the task to one by @ext.task"
        )


class FlaskCelery(Celery):
    """The app with Celery's names of one Flask app: `app.extensions["celery"]`.

    Its settings are those of the Flask app: the keys `CELERY_…` of `app.config`, and its dict `CELERY`.

    Args:
        flask_app: The Flask app.

    Attributes:
        flask_app: The same.
        engine: The millstream app on which its tasks run.

    Raises:
        ImproperlyConfigured: One of Celery's settings is wrong.
        SettingsError: One of millstream's is.
    """

    def __init__(self, flask_app: Flask) -> None:
        config = flask_app.config
        super().__init__(flask_app.name, task_cls=FlaskTask, set_as_current=False)
        self.conf.update({key: value for key, value in config.items() if _is_celerys(key) and value is not None})
        self.conf.update(config.get("CELERY") or {})
        self.flask_app = flask_app
        self._given = settings_of(config, self.conf)
        self.engine = FlaskEngine(flask_app, self._given)
        self._is_taken = False
        self.door = type(self.door)(self, self._engine_in_force)
        self.set_current()

    def settings(self) -> Mapping[str, Any]:
        """Return the settings that `app.config` brings."""
        return self._given

    def engine_of_workers(self) -> FlaskEngine:
        """Return the millstream app whose jobs its workers execute: that of the Flask app."""
        return self.engine

    def _engine_in_force(self) -> current.App:
        """Return the millstream app to hand work to: in a running task that which runs it, unless it is another's."""
        here = current.app() if running.get() is not None else None
        if here is not None and (not isinstance(here, FlaskEngine) or here is self.engine):
            return here
        if not self._is_taken:  # not before: what it imports then may need the Flask app
            self._is_taken = True
            self.engine.registry.take(self)
        return self.engine

    def _made(self, fn: Callable[..., Any], *, base: type[Task] | None = None, **options: Any) -> Any:
        return super()._made(fn, base=hosted(base, FlaskTask), **options)

    def _register(self, task: Task, *, is_newer: bool = False) -> Task:
        registered = super()._register(task, is_newer=is_newer)
        if self._is_taken:
            self.engine.registry.add(registered)
        return registered

    def adopt(self, task: Task) -> None:
        """Take a task that belongs to several Flask apps."""
        self._register(task)


def _is_celerys(key: str) -> bool:
    return key in NAMES or key.startswith(_CELERYS)


def celery_here() -> FlaskCelery | None:
    """Return the app with Celery's names of the Flask app whose context or task this is; `None` for none of them."""
    engine = engine_here()
    found = engine.flask_app.extensions.get("celery") if engine is not None else None
    return found if isinstance(found, FlaskCelery) else None


_state.look_for(celery_here)
