"""The handle of one task of the service."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

from millstream.app import Millstream
from millstream.authoring.result import unwrap
from millstream.authoring.results import states
from millstream.errors import JobNotFoundError, MillstreamError
from millstream.model.event import START
from millstream.model.job import JobRecord, JobState

_STATUS = {
    JobState.SCHEDULED: states.PENDING,
    JobState.QUEUED: states.PENDING,
    JobState.RUNNING: states.STARTED,
    JobState.WAITING: states.STARTED,
    JobState.SUCCEEDED: states.SUCCESS,
    JobState.FAILED: states.FAILURE,
    JobState.CANCELLED: states.REVOKED,
}


class AnyIOTaskResult:
    """A task of the service. Awaiting it gives its result, or raises what failed it.

    What it says of itself without being awaited is what its process knows. Of a task that was launched here, that is
    how it stands; of others, call `refresh` first.

    Example:
        >>> import asyncio
        >>> from millstream.service import TaskService
        >>> async def main() -> tuple[int, str]:
        ...     async with TaskService() as service:
        ...         _, task = await service.launch_task(pow, 2, 10)
        ...         return await task, task.status
        >>> asyncio.run(main())
        (1024, 'SUCCESS')

    Attributes:
        id: The task's id.
        status: PENDING, STARTED, SUCCESS, FAILURE or REVOKED.
        result: What it returned; `None` until it has.
        exception: What failed it, or says that it was revoked; `None` for any other.
        traceback: The traceback of where it failed, as text; `None` unless it did.
    """

    def __init__(self, task_id: str, app: Millstream) -> None:
        """Know nothing but the id yet."""
        self.id = task_id
        self.status = states.PENDING
        self.result: Any = None
        self.exception: BaseException | None = None
        self.traceback: str | None = None
        self._app = app

    def ready(self) -> bool:
        """Return whether it has ended, in whatever way."""
        return self.status in states.READY_STATES

    def successful(self) -> bool:
        """Return whether it has succeeded."""
        return self.status == states.SUCCESS

    async def refresh(self) -> Self:
        """Take in what the ledger says of it by now, and return this handle.

        Raises:
            JobNotFoundError: No task has this id.
            WorkflowServiceUnavailableError: The ledger cannot be reached.
        """
        self._take(await self._app.record(await job_of(self._app, self.id)))
        return self

    async def follow(self) -> None:
        """Keep up with it until it has ended, or is found nowhere."""
        try:
            job_id = await job_of(self._app, self.id)
            async for event in self._app.read_events(job_id, START):
                if event.type == "started" and not self.ready():
                    self.status = states.STARTED
            await self.refresh()
        except MillstreamError:
            return  # the app was closed, the ledger is away: whoever asks by `refresh` or `await` is told

    async def _wait(self) -> Any:
        record = await self._app.ended(await job_of(self._app, self.id))
        self._take(record)
        return unwrap(record)

    def _take(self, record: JobRecord) -> None:
        self.status = _STATUS[record.state]
        if not record.state.is_final:
            return
        try:
            self.result = unwrap(record)
        except BaseException as error:  # noqa: BLE001  whatever the task raised
            self.exception = error
            self.traceback = None if record.error is None else record.error.traceback

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait until it has ended; give its result, or raise what failed it."""
        return self._wait().__await__()

    def __repr__(self) -> str:
        """Return a form that names the task."""
        return f"<task {self.id}: {self.status}>"


async def job_of(app: Millstream, task_id: str) -> str:
    """Return the id of the job that a task id names.

    Raises:
        JobNotFoundError: There is none.
    """
    found = await app.locate(task_id)
    if found is None:
        raise JobNotFoundError(f"there is no task {task_id!r}")
    return found[0]
