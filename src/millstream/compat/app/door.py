"""The way from an app's tasks to the engine: what Celery's options mean there, and the signals around a submit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from millstream.authoring import current
from millstream.authoring.canvas.options import BROKER_OPTIONS
from millstream.authoring.canvas.signature import Signature, listed
from millstream.compat import signals
from millstream.compat._state import performing
from millstream.compat.app.times import aware, countdown_of, seconds_from_now
from millstream.eager import EagerApp

if TYPE_CHECKING:  # an app has a door
    from millstream.compat.app.base import Celery

_log: Final = logging.getLogger("millstream.compat")


class Door:
    """Takes the signatures of one app's tasks, and hands them to the millstream app in force.

    Args:
        app: The app.
        engine: Says which millstream app that is; by default the one in force.
    """

    def __init__(self, app: Celery, engine: Callable[[], Any] = current.app) -> None:
        self._app = app
        self._engine = engine
        self._has_said = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine(), name)

    def definition(self, name: str) -> Any:
        """Return a task by its name.

        Raises:
            UnknownNameError: There is none.
        """
        known: dict[str, Any] = self._app.tasks
        return known[name] if name in known else self._engine().definition(name)

    def hand_in(self, work: Any, /, *args: Any, **options: Any) -> Any:
        """Submit a signature, or run it at once where `task_always_eager` is on; return its result."""
        self._app.finalize(auto=True)
        if self._app.conf.task_always_eager:
            return self.apply(work, *args, **options)
        self._say_where()
        prepared, for_job = self._prepared(work), self._for_job(options)
        return self._published(prepared, lambda: self._engine().hand_in(prepared, *args, **for_job))

    def apply(self, work: Any, /, *args: Any, throw: bool | None = None, **options: Any) -> Any:
        """Run a signature here and now; return its `EagerResult`.

        Args:
            work: The signature.
            args: Further arguments.
            throw: Whether what fails it is raised; by default `task_eager_propagates` decides.
            options: Options of the job.
        """
        self._app.finalize(auto=True)
        here = self._engine()
        prepared, for_job = self._prepared(work), self._for_job(options)
        if isinstance(here, EagerApp):
            return here.hand_in(prepared, *args, **for_job)
        throw = bool(self._app.conf.task_eager_propagates) if throw is None else throw
        return here.apply(prepared, *args, throw=throw, **for_job)

    async def submit(self, work: Any, /, *args: Any, **options: Any) -> Any:
        """Submit a signature from an event loop, and return its job."""
        self._say_where()
        prepared, for_job = self._prepared(work), self._for_job(options)
        return await self._engine().submit(prepared, *args, **for_job)

    # ------------------------------------------------------------------------------------------------ inside
    def _prepared(self, work: Any) -> Any:
        """Return a signature without what speaks of messages, and with times and models in forms that are kept."""
        if not isinstance(work, Signature):
            return work
        for name in BROKER_OPTIONS & work.options.keys():
            del work.options[name]
        for name, read in (("eta", aware), ("expires", seconds_from_now)):
            if work.options.get(name) is not None:
                work.options[name] = read(self._app.conf, work.options[name])
        if work.options.get("queue") is not None:
            work.options["queue"] = str(getattr(work.options["queue"], "name", work.options["queue"]))
        models = getattr(work.work, "models", None)
        if models is not None:
            work["args"], work["kwargs"] = models.plain(work.args, work.kwargs)
        for inner in _inner(work):
            self._prepared(inner)
        return work

    def _for_job(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a job in forms that millstream reads."""
        conf = self._app.conf
        for_job = {name: value for name, value in options.items() if value is not None}
        if "eta" in for_job:
            for_job["eta"] = aware(conf, for_job["eta"])
        if "countdown" in for_job:
            for_job["countdown"] = countdown_of(for_job["countdown"])
        if "expires" in for_job:
            for_job["expires"] = seconds_from_now(conf, for_job["expires"])
        parent = performing.get()
        if conf.task_inherit_parent_priority and parent is not None and "priority" not in for_job:
            for_job["priority"] = parent.request.delivery_info.get("priority", 0)
        return for_job

    def _published(self, work: Any, submit: Callable[[], Any]) -> Any:
        """Submit, with the signals of a message that is sent."""
        name = getattr(work, "task", getattr(work, "name", None))
        if not (signals.before_task_publish.has_listeners(name) or signals.after_task_publish.has_listeners(name)):
            return submit()
        args, kwargs = getattr(work, "args", ()), getattr(work, "kwargs", {})
        options = dict(getattr(work, "options", {}))
        headers = {"task": name, "id": options.get("task_id"), "argsrepr": repr(args), "kwargsrepr": repr(kwargs)}
        headers.update(options.get("headers") or {})
        told: dict[str, Any] = {"body": (args, kwargs, {}), "exchange": "", "headers": headers}
        told["routing_key"] = options.get("queue") or self._app.conf.task_default_queue
        signals.before_task_publish.send(name, **told, properties={}, declare=[], retry_policy=None)
        result = submit()
        headers["id"] = getattr(result, "id", None)
        signals.after_task_publish.send(name, **told)
        return result

    def _say_where(self) -> None:
        """Say once that the app's broker is not used, unless somebody has said so by `celery_enabled`."""
        if self._has_said:
            return
        self._has_said = True
        if not self._app.conf.broker_url:
            return
        settings = self.settings
        if not settings.celery_enabled and settings.sources()["celery_enabled"].kind == "default":
            _log.warning(
                "%r names a broker that is not used: its tasks run in this process, and in workers that "
                "`millstream worker` started. MILLSTREAM_CELERY_ENABLED=true hands them to Celery workers by that "
                "broker; with false they run here and nothing is said",
                self._app,
            )


def _inner(work: Signature) -> Iterable[Signature]:
    """Return the signatures that one consists of, and those that are linked to it."""
    linked = (link for key in ("link", "link_error") for link in listed(work.options.get(key)))
    return (*work.children(), *(link for link in linked if isinstance(link, Signature)))
