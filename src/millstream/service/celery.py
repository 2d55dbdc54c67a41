"""The backend on Celery: jobs that workers execute, and tasks of users' own Celery apps. It imports Celery.

Celery's client blocks, some of it without end when a server hangs: whatever it does is done in threads, which are given
up after two seconds.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event
from typing import Any, Final, Self, TypeVar, cast

from anyio.lowlevel import RunVar
from celery import Celery, current_app
from celery import Task as CeleryTask
from celery.backends.base import DisabledBackend
from celery.exceptions import TaskRevokedError
from celery.utils import uuid
from kombu.connection import Connection
from kombu.exceptions import EncodeError, OperationalError
from kombu.messaging import Producer

from millstream.app import Millstream
from millstream.authoring.aside import in_daemon_thread
from millstream.authoring.local import LocalCall
from millstream.authoring.result import Job
from millstream.authoring.results import states
from millstream.errors import (
    DefinitionError,
    InvalidInputError,
    JobCancelledError,
    JobNotFoundError,
    NotSerializableError,
    WorkflowServiceUnavailableError,
)
from millstream.service.backend import JobBackend
from millstream.service.result import AnyIOTaskResult, job_of

T = TypeVar("T")

_ANSWER_SECONDS: Final = 1.8
"""How long a server may take to answer: whoever asked is told within two seconds."""

_SOCKET_SECONDS: Final = 0.8
"""How long connecting to a broker, and each of its answers, may take; a message takes both."""

_REPLY_SECONDS: Final = 0.5
_AT_ONCE: Final = 16
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.02, 0.5

_BOUNDED: Final[Mapping[str, Mapping[str, Any]]] = {
    "redis": {"socket_timeout": _SOCKET_SECONDS, "socket_connect_timeout": _SOCKET_SECONDS},
    "amqp": {"read_timeout": _SOCKET_SECONDS, "write_timeout": _SOCKET_SECONDS, "confirm_publish": True},
}
"""Options of Kombu's transports, without which a broker that hangs holds its client for ever."""


class CeleryBackend(JobBackend):
    """Runs tasks on Celery workers; see `TaskBackend` for what its methods promise.

    - A task, a flow or a signature is a job, as without Celery; the workers execute it.
    - So is an undecorated function at the top level of a module. The workers have to import the module: `-A`, or the
      setting `imports`.
    - A task of a user's own Celery app is sent by that app, to its broker; its id and its result are Celery's.

    Args:
        app: The app; by default the one in force here.

    Example:
        >>> import asyncio
        >>> from celery import Celery
        >>> from millstream import Millstream, Settings
        >>> from millstream.service import CeleryBackend
        >>> celery_app = Celery("shop", broker="memory://")
        >>> @celery_app.task
        ... def cube(x: int) -> int:
        ...     return x**3
        >>> async def main() -> str:
        ...     task_id, _ = await CeleryBackend(Millstream(settings=Settings())).launch_task(cube, 4)
        ...     return task_id
        >>> len(asyncio.run(main()))
        36
    """

    name = "celery"
    _way_out = "what goes to a worker is written down: give an id, a path or plain data in its place"

    async def launch_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> tuple[str, AnyIOTaskResult]:
        """Start a task with these arguments; return its id and its handle.

        Raises:
            DefinitionError: `fn` cannot be called, or no worker could find it.
            InvalidInputError: The arguments do not fit.
            NotSerializableError: An argument cannot be written down.
            WorkflowServiceUnavailableError: The ledger cannot be reached, or is full; of a task of Celery's own, its
                broker was not reached within two seconds. One that was lost while it answered may have taken it.
            WorkflowResourceError: The arguments or the graph are too large.
        """
        if not isinstance(fn, CeleryTask):
            return await super().launch_task(fn, *args, **kwargs)
        task_id = await _sent(fn, args, kwargs)
        return task_id, self._keep(CeleryTaskResult(task_id, self._app, fn.app, is_celerys=True))

    async def revoke_task(self, task_id: str) -> bool:
        """Stop a task: what waits never starts, what runs is cancelled. A task of Celery's own is terminated.

        Returns:
            Whether it was stopped by this, and nothing of it runs any more; see `AnyIOBackend.revoke_task`. Of a task
            of Celery's own, whether its result backend says so within two seconds of a worker's having heard of it: a
            task that waits behind others is revoked when its turn comes, and this cannot tell yet. Without a result
            backend nobody can tell: `False`, though it is terminated.

        Raises:
            WorkflowServiceUnavailableError: The ledger cannot be reached; of a task of Celery's own, its broker or its
                result backend.
        """
        task = self._tasks.get(task_id) or self._handle(task_id)
        if isinstance(task, CeleryTaskResult) and await task.is_celerys():
            return await task.revoke()
        return await super().revoke_task(task_id)

    def _handle(self, task_id: str) -> AnyIOTaskResult:
        return CeleryTaskResult(task_id, self._app, current_app._get_current_object())  # noqa: SLF001  not the proxy

    async def _submit_unnamed(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        LocalCall(fn, args, kwargs)  # which refuses what cannot be called
        module = sys.modules.get(getattr(fn, "__module__", None) or "")
        if module is not None:
            self._app.registry.scan(module)
        task = self._app.registry.task_of(fn)
        if task is None or task.name.startswith("__main__."):
            raise DefinitionError(
                f"{getattr(fn, '__qualname__', fn)!s} cannot be sent to a worker, which finds functions by module and "
                "name: make it a function at the top level of a module that the workers import"
            )
        return await self._submit(fn, args, kwargs)


class CeleryTaskResult(AnyIOTaskResult):
    """A task on Celery workers. Awaiting it gives its result, or raises what failed it.

    What it says of itself without being awaited is what this process knows: call `refresh` first.

    Args:
        task_id: The task's id.
        app: The app whose job it may be.
        celery_app: The Celery app whose task it may be.
        is_celerys: Whether it is one of that app, and no job.
    """

    def __init__(self, task_id: str, app: Millstream, celery_app: Celery, *, is_celerys: bool = False) -> None:
        """Know nothing but the id yet."""
        super().__init__(task_id, app)
        self._celery, self._is_celerys = celery_app, is_celerys

    async def is_celerys(self) -> bool:
        """Return whether it is a task of a Celery app, as far as the ledger knows of no job with its id.

        Raises:
            WorkflowServiceUnavailableError: The ledger cannot be reached.
        """
        if not self._is_celerys:
            with suppress(JobNotFoundError):
                await job_of(self._app, self.id)
                return False
        return True

    async def refresh(self) -> Self:
        """Take in what the ledger, or Celery's result backend, says of it by now, and return this handle.

        Raises:
            JobNotFoundError: No job has this id, and the result backend has nothing of it either.
            WorkflowServiceUnavailableError: The ledger cannot be reached, or the result backend does not answer within
                two seconds.
        """
        if await self.is_celerys():
            await self._look()
            return self
        return await super().refresh()

    async def revoke(self) -> bool:
        """Terminate a task of Celery's own; return whether that is known to have ended it."""
        try:
            if self._has_results():
                await self._look()
        except JobNotFoundError:
            return False
        if self.ready():
            return False
        await _answered(self._revoke_now, f"the broker of {self._celery}")
        if not self._has_results():
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._ended()
        return bool(self.status == states.REVOKED)

    async def follow(self) -> None:
        """Keep up with a job; of a task of Celery's own nothing tells, so it is looked for when somebody asks."""
        if not self._is_celerys:
            await super().follow()

    async def _wait(self) -> Any:
        if not await self.is_celerys():
            return await super()._wait()
        await self._ended()
        if self.exception is not None:
            raise self.exception
        return self.result

    async def _ended(self) -> None:
        pause = _FIRST_LOOK_SECONDS
        while True:
            await self._look()
            if self.ready():
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)

    async def _look(self) -> None:
        """Take in what Celery's result backend says."""
        if self.ready():
            return
        if not self._has_results():
            raise DefinitionError(
                f"{self._celery} has no result backend, so nobody can tell how its tasks stand; set result_backend, "
                "as in redis://localhost:6379/0"
            )
        told = await _answered(self._told, f"the result backend of {self._celery}")
        self._learn(told)

    def _has_results(self) -> bool:
        """Whether there is something that tells how tasks of Celery's own stand.

        Raises:
            JobNotFoundError: There is not, and nobody said that it is such a task.
        """
        if not isinstance(self._celery.backend, DisabledBackend):
            return True
        if not self._is_celerys:
            raise JobNotFoundError(f"there is no task {self.id!r}")
        return False

    def _learn(self, told: Mapping[str, Any]) -> None:
        status, value = str(told["status"]), told.get("result")
        if status == states.PENDING and not self._is_celerys:
            raise JobNotFoundError(f"there is no task {self.id!r}: no job has this id, and no result of Celery's")
        if status == states.SUCCESS:
            self.result = value
        elif status == states.REVOKED:
            self.exception = JobCancelledError(f"task {self.id} was revoked")
            self.exception.__cause__ = value if isinstance(value, TaskRevokedError) else None
        elif status == states.FAILURE:
            self.exception, self.traceback = value, told.get("traceback")
        self.status = status

    def _told(self) -> Mapping[str, Any]:
        try:
            return cast("Mapping[str, Any]", self._celery.backend.get_task_meta(self.id))
        except Exception as error:  # each result backend has errors of its own
            raise OperationalError(str(error)) from error

    def _revoke_now(self) -> None:
        with _connection(self._celery) as connection:
            result = self._celery.AsyncResult(self.id)
            try:
                result.revoke(connection=connection, terminate=True, wait=True, timeout=_REPLY_SECONDS)
            except connection.connection_errors as error:
                raise OperationalError(str(error)) from error


async def _sent(task: CeleryTask, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Send a task of Celery's own to its broker; return its id.

    Raises:
        InvalidInputError: The arguments do not fit.
        NotSerializableError: An argument cannot be written down.
        WorkflowServiceUnavailableError: The broker was not reached within two seconds.
    """
    task_id: str = uuid()
    given_up = Event()

    def send() -> None:
        with _connection(task.app) as connection:
            producer = _Timely(connection, given_up)
            task.apply_async(args, kwargs, task_id=task_id, producer=producer, retry=False)

    try:
        await _answered(send, f"the broker of {task.app}")
    except EncodeError as error:
        raise NotSerializableError(f"the arguments of {task.name} cannot be written down: {error}") from error
    except TypeError as error:
        raise InvalidInputError(str(error)) from error
    finally:
        given_up.set()
    return task_id


class _Timely(Producer):
    """Publishes nothing any more once its caller was told that nothing was sent."""

    def __init__(self, connection: Connection, given_up: Event) -> None:
        super().__init__(connection, auto_declare=False)  # type: ignore[no-untyped-call]  # Kombu has few types
        self._given_up = given_up

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        if self._given_up.is_set():
            raise TimeoutError("given up")
        return super().publish(*args, **kwargs)  # type: ignore[no-untyped-call]  # as above


def _connection(app: Celery) -> Connection:
    """Return a connection to an app's broker that waits for nothing longer than a second, and tries each URL once."""
    kind = app.connection_for_write().get_transport_cls().driver_type
    made: Connection = app.connection_for_write(
        connect_timeout=_SOCKET_SECONDS, transport_options=_BOUNDED.get(kind, {})
    )
    made.ensure_connection(  # type: ignore[no-untyped-call]  # as above
        max_retries=1, interval_start=0, interval_step=0, timeout=_ANSWER_SECONDS
    )
    return made


async def _answered(ask: Callable[[], T], who: str) -> T:
    """Return what a blocking call to a server returns, and wait for it at most two seconds.

    Raises:
        WorkflowServiceUnavailableError: The server cannot be reached, or did not answer in time.
        Exception: Whatever else the call raises.
    """
    loop, places = asyncio.get_running_loop(), _places()

    def freed() -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits for a place
            loop.call_soon_threadsafe(places.release)

    def call() -> T:
        try:
            return ask()
        finally:
            freed()

    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await places.acquire()
            return await in_daemon_thread(call)
    except (OSError, OperationalError, TimeoutError) as error:
        told = str(error) or f"no answer within {_ANSWER_SECONDS:g} s"
        raise WorkflowServiceUnavailableError(f"{who} cannot be reached: {told}") from error


def _places() -> asyncio.Semaphore:
    """Return what bounds the threads that wait for servers, on this loop."""
    bound = _bound.get(None)
    if bound is None:
        bound = asyncio.Semaphore(_AT_ONCE)
        _bound.set(bound)
    return bound


_bound: Final[RunVar[asyncio.Semaphore | None]] = RunVar("millstream_celery_calls", None)
