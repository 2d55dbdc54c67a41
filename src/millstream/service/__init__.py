"""`TaskService`: run any function in the background, and know it by an id. The small, stable face of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from millstream.app import Millstream
from millstream.authoring import current
from millstream.errors import SettingsError, WorkflowResourceError, WorkflowServiceUnavailableError
from millstream.service.backend import AnyIOBackend, TaskBackend
from millstream.service.result import AnyIOTaskResult
from millstream.settings import Settings

if TYPE_CHECKING:  # it imports Celery: see `__getattr__`
    from millstream.service.celery import CeleryBackend, CeleryTaskResult

__all__ = [
    "AnyIOBackend",
    "AnyIOTaskResult",
    "CeleryBackend",
    "CeleryTaskResult",
    "SettingsService",
    "TaskBackend",
    "TaskService",
    "WorkflowResourceError",
    "WorkflowServiceUnavailableError",
    "get_settings_service",
]

_OF_CELERY = ("CeleryBackend", "CeleryTaskResult")


def __getattr__(name: str) -> Any:
    """Import what needs Celery when it is asked for.

    Raises:
        SettingsError: Celery is not installed.
        AttributeError: There is no such name.
    """
    if name not in _OF_CELERY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from millstream.service import celery  # noqa: PLC0415  who does without Celery needs none
    except ModuleNotFoundError as error:
        raise SettingsError("tasks on Celery workers need Celery: pip install 'millstream[celery]'") from error
    return getattr(celery, name)


@dataclass(frozen=True, slots=True)
class SettingsService:
    """Holds the settings of a process.

    Attributes:
        settings: The settings.
    """

    settings: Settings


def get_settings_service() -> SettingsService:
    """Return the settings of this process, read from the environment, `.env` and `config.yaml`.

    Raises:
        SettingsError: A setting is wrong, or needs a part that this version does not have.
    """
    return SettingsService(Settings.load())


class TaskService:
    """Runs functions in the background, on the backend that the settings name.

    Without the setting `celery_enabled`:

    - Any callable runs in this process, with any arguments; its result is not copied.
    - A task, a flow or a signature runs by its own policy, and is as durable as its flow or the settings say.
    - So does an undecorated function at the top level of a module that the app imports (setting `imports`).

    With it, tasks run on Celery workers: see `CeleryBackend`.

    It starts on first use. Close it with `async with` or `stop()`.

    Args:
        settings: What `get_settings_service()` returns, or `Settings`: the service has an app of its own then. Or a
            `Millstream` to use. By default the app in force here. An app that was not made here goes on when the
            service is closed.

    Raises:
        SettingsError: It is none of these, or a setting needs a part that this version does not have.

    Example:
        >>> import asyncio
        >>> from millstream.service import TaskService, get_settings_service
        >>> async def process_data(x: int) -> int:
        ...     return x * 2
        >>> async def main() -> int:
        ...     async with TaskService(get_settings_service()) as task_service:
        ...         return await task_service.launch_and_await_task(process_data, 5)
        >>> asyncio.run(main())
        10

    Attributes:
        settings: Its settings.
    """

    def __init__(self, settings: Any = None) -> None:
        self._owned: Millstream | None = None
        if settings is None:
            settings = current.app()
        if not isinstance(settings, Millstream):
            self._owned = Millstream(settings=_checked(settings))
        app = self._owned or settings
        self.settings: Settings = app.settings
        self._backend: TaskBackend = _backend_of(app)

    @property
    def use_celery(self) -> bool:
        """Whether the setting `celery_enabled` is on."""
        return self.settings.celery_enabled

    @property
    def backend_name(self) -> str:
        """The backend's public name: `anyio` or `celery`."""
        return self._backend.name

    def get_backend(self) -> TaskBackend:
        """Return the backend."""
        return self._backend

    # ------------------------------------------------------------------------------------------------ lifetime
    async def start(self) -> None:
        """Begin to run tasks, also what was left in the ledger; may be called twice."""
        await self._backend.start()

    async def stop(self) -> None:
        """Let go of all tasks, and close the app if it is the service's own; may be called twice, and before `start`.

        Tasks that run in this process only are cancelled then; others on the ledger go on with the durable ones.
        """
        await self._backend.stop()
        if self._owned is not None:
            await self._owned.aclose()

    aclose = stop

    async def __aenter__(self) -> Self:
        """Start the service."""
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Stop the service."""
        await self.stop()

    # --------------------------------------------------------------------------------------------------- tasks
    async def fire_and_forget_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> str:
        """Start a function with these arguments, and return the task's id; see `launch_task`."""
        task_id, _ = await self.launch_task(fn, *args, **kwargs)
        return task_id

    async def launch_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Start a function with these arguments, and return the task's id and a handle of it, which can be awaited.

        Raises:
            DefinitionError: `fn` cannot be called.
            InvalidInputError: The arguments do not fit.
            NotSerializableError: The task is durable, and an argument cannot be written down.
            WorkflowServiceUnavailableError: The ledger cannot be reached, or is full; of a task of Celery's own, its
                broker cannot be reached.
            WorkflowResourceError: The arguments or the graph are too large.
        """
        return await self._backend.launch_task(fn, *args, **kwargs)

    async def launch_and_await_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start a function with these arguments, and return its result; see `launch_task`.

        Raises:
            Exception: What failed the task.
        """
        _, task = await self.launch_task(fn, *args, **kwargs)
        return await task

    def get_task(self, task_id: str) -> Any:
        """Return the handle of a task; see `AnyIOTaskResult` and `CeleryTaskResult`."""
        return self._backend.get_task(task_id)

    async def revoke_task(self, task_id: str) -> bool:
        """Stop a task; return whether it was stopped by this, so that nothing of it runs any more.

        `False` says that it had ended, is not known, or still runs; see `revoke_task` of the backends.

        Raises:
            WorkflowServiceUnavailableError: The ledger cannot be reached; of a task of Celery's own, its broker or
                result backend.
        """
        return await self._backend.revoke_task(task_id)


def _backend_of(app: Millstream) -> TaskBackend:
    """Return the backend that an app's settings name.

    Raises:
        SettingsError: It needs Celery, which is not installed.
    """
    if app.settings.celery_enabled:
        return cast("TaskBackend", __getattr__("CeleryBackend")(app))
    return AnyIOBackend(app)


def _checked(given: Any) -> Settings:
    """Return settings, or those that a service of settings holds.

    Raises:
        SettingsError: There are none, or one needs a part that this version does not have.
    """
    settings = given if isinstance(given, Settings) else getattr(given, "settings", None)
    if not isinstance(settings, Settings):
        raise SettingsError(f"TaskService takes Settings, get_settings_service() or a Millstream, not {given!r}")
    if problems := [*settings.missing()]:
        raise SettingsError("\n".join(problems))
    return settings
