"""What runs the tasks of the service: what every backend offers, what they have in common, and the one on AnyIO."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, cast
from weakref import WeakValueDictionary

import anyio

from millstream.app import Millstream
from millstream.authoring import current
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.flow import Flow
from millstream.authoring.local import LocalCall
from millstream.authoring.result import Job
from millstream.authoring.task import Task
from millstream.errors import JobNotFoundError, NotSerializableError
from millstream.model.job import JobState
from millstream.portal import end, running_loop
from millstream.service.result import AnyIOTaskResult, job_of

_KEPT_TASKS = 1000
"""Handles of ended tasks that are kept for `get_task`; of others the ledger is asked again."""

_ANSWER_SECONDS = 2.0
_LOOK_SECONDS = 0.01


class TaskBackend(Protocol):
    """Runs functions in the background. Where its tasks run, its name tells."""

    @property
    def name(self) -> str:
        """Its public name, such as `anyio`."""

    async def launch_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        """Start a function with these arguments, and return the task's id and a handle of it."""

    def get_task(self, task_id: str) -> Any:
        """Return the handle of a task."""

    async def revoke_task(self, task_id: str) -> bool:
        """Stop a task; return whether it was stopped by this, so that nothing of it runs any more."""

    async def start(self) -> None:
        """Begin to run tasks; may be called twice."""

    async def stop(self) -> None:
        """Let go of all tasks; may be called twice, and before `start`."""


class JobBackend(ABC):
    """Runs tasks, flows, signatures and functions as jobs of an app: what the backends have in common.

    Args:
        app: The app; by default the one in force here.
    """

    name: ClassVar[str]
    _way_out: ClassVar[str]

    def __init__(self, app: Millstream | None = None) -> None:
        """Start nothing yet."""
        self._app: Millstream = app or cast("Millstream", current.app())
        self._tasks: dict[str, AnyIOTaskResult] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._revoking: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def start(self) -> None:
        """Start the app; see `TaskBackend.start`."""
        await self._app.__aenter__()

    async def stop(self) -> None:
        """Follow no task any more; see `TaskBackend.stop`. The app goes on: it belongs to whoever made it."""
        following, self._following = self._following, {}
        here = asyncio.get_running_loop()
        for task in following.values():
            if task.get_loop() is here:
                await end(task)
            elif not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def launch_task(self, fn: Any, /, *args: Any, **kwargs: Any) -> tuple[str, AnyIOTaskResult]:
        """Start a function with these arguments; return the task's id and its handle.

        Raises:
            DefinitionError: `fn` cannot be called.
            InvalidInputError: The arguments do not fit.
            NotSerializableError: The task is durable, and an argument cannot be written down.
            WorkflowServiceUnavailableError: The ledger cannot be reached, or is full.
            WorkflowResourceError: The arguments or the graph are too large.
        """
        job = await self._submit(fn, args, kwargs)
        return job.id, self.get_task(job.id)

    def get_task(self, task_id: str) -> AnyIOTaskResult:
        """Return the handle of a task: the one that `launch_task` returned, or one that knows only the id yet."""
        known = self._tasks.get(task_id) or self._keep(self._handle(task_id))
        if running_loop() is not None and not known.ready() and task_id not in self._following:
            follower = self._following[task_id] = asyncio.create_task(known.follow(), name=f"millstream {task_id}")
            follower.add_done_callback(lambda _: self._following.pop(task_id, None))
        return known

    async def revoke_task(self, task_id: str) -> bool:
        """Stop a task: what waits never starts, what runs is cancelled; a task of a canvas takes that with it.

        Returns:
            Whether it was stopped by this, and nothing of it runs any more. `False` for one that had ended, that is
            not known, or that still runs: a plain function in a thread cannot be stopped. Its result is dropped then,
            and it has two seconds to notice `ctx.cancelled` before this returns. Of threads of other processes this
            cannot tell.

        Raises:
            WorkflowServiceUnavailableError: The ledger cannot be reached.
        """
        lock = self._revoking.setdefault(task_id, anyio.Lock())  # of two that ask for the same, one has stopped it
        async with lock:
            try:
                job_id = await job_of(self._app, task_id)
                if (await self._app.record(job_id)).state.is_final:
                    return False
                record = await self._app.cancel(job_id)
            except JobNotFoundError:
                return False
            with anyio.move_on_after(_ANSWER_SECONDS):
                while await self._app.is_left_running(job_id):  # noqa: ASYNC110  a thread tells nobody that it ends
                    await anyio.sleep(_LOOK_SECONDS)
            if task_id in self._tasks:
                await self._tasks[task_id].refresh()
            return record.state is JobState.CANCELLED and not await self._app.is_left_running(job_id)

    def _handle(self, task_id: str) -> AnyIOTaskResult:
        """Make the handle of a task that knows only the id yet."""
        return AnyIOTaskResult(task_id, self._app)

    def _keep(self, task: AnyIOTaskResult) -> AnyIOTaskResult:
        """Keep a handle for `get_task`, and return it."""
        self._tasks[task.id] = task
        if len(self._tasks) > _KEPT_TASKS:
            self._forget_ended()
        return task

    @abstractmethod
    async def _submit_unnamed(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        """Submit the call of something that the app does not know by a name.

        Raises:
            DefinitionError: It cannot be called, or not by this backend.
        """

    async def _submit(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        if isinstance(fn, Signature):
            return await self._app.submit(fn.clone(args, kwargs))
        if isinstance(fn, Flow):
            args, kwargs = fn.inputs.split(fn.inputs.bind(args, kwargs))  # by position: `priority` is an input here
            return await self._app.submit(fn, *args, **kwargs)
        if isinstance(fn, Task):
            return await self._app.submit(Signature(fn, args, kwargs))
        task = self._app.registry.task_of(fn)
        if task is None:
            return await self._submit_unnamed(fn, args, kwargs)
        try:
            return await self._app.submit(Signature(task, args, kwargs))
        except NotSerializableError as error:
            raise NotSerializableError(f"{error}; {self._way_out}") from error

    def _forget_ended(self) -> None:
        for task_id in [task_id for task_id, task in self._tasks.items() if task.ready()][: _KEPT_TASKS // 2]:
            del self._tasks[task_id]


class AnyIOBackend(JobBackend):
    """Runs functions as jobs of an app, which executes them; see `TaskBackend` for what its methods promise.

    - A task, a flow or a signature runs as its own policy and durability say.
    - So does an undecorated function of a module that the app imports: it is known by its name, and another process
      that imports the module can go on with it.
    - Any other callable runs in this process, with any arguments, and ends with it.

    Args:
        app: The app; by default the one in force here.
    """

    name = "anyio"
    _way_out = "to run it in this process only, put the call in a lambda"

    async def _submit_unnamed(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        call = LocalCall(fn, args, kwargs)
        return await self._app.submit(call.task, call)
