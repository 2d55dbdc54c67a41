"""`app.control`: revoke tasks, and ask what this process knows and runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.authoring import current
from millstream.authoring.results.async_result import AsyncResult
from millstream.compat.app.due import as_request, as_scheduled, due_tasks
from millstream.errors import JobNotFoundError
from millstream.model.job import JobRecord, JobState

if TYPE_CHECKING:  # an app has a control
    from millstream.compat.app.base import Celery


class Control:
    """What Celery tells its workers by messages; here the ledger tells them.

    Args:
        app: The app.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Any = None,  # noqa: ARG002  see below
        terminate: bool = False,
        **_options: Any,
    ) -> None:
        """Cancel the jobs of tasks: what has not started never starts, what runs is stopped.

        Args:
            task_id: The id of a task, or several.
            destination: Means nothing here: whoever runs the task hears of it.
            terminate: Means nothing here: what runs is stopped anyway.
        """
        for one in [task_id] if isinstance(task_id, str) else task_id:
            with suppress(JobNotFoundError):
                AsyncResult(one).revoke(terminate=terminate)

    def terminate(self, task_id: str | Iterable[str], **options: Any) -> None:
        """Cancel the jobs of tasks; see `revoke`."""
        self.revoke(task_id, terminate=True, **options)

    def inspect(self, *_args: Any, **_options: Any) -> Inspect:
        """Return what answers questions about this process."""
        return Inspect(self._app)

    def ping(self, **_options: Any) -> list[dict[str, Any]]:
        """Return the answer of this process."""
        return [{name: answer} for name, answer in self.inspect().ping().items()]


class Inspect:
    """Answers Celery's questions to workers, for the ledger as this process sees it.

    Each answer is a dict of one entry, by the name of this process.

    Args:
        app: The app.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.hostname = f"millstream@{socket.gethostname()}"

    def ping(self) -> dict[str, dict[str, str]]:
        """Return that this process is there."""
        return {self.hostname: {"ok": "pong"}}

    def registered(self, *_items: str) -> dict[str, list[str]]:
        """Return the names of the tasks."""
        return {self.hostname: sorted(self._app.tasks)}

    def active(self, **_options: Any) -> dict[str, list[dict[str, Any]]]:
        """Return the tasks that run, or are about to, of all jobs that run."""
        return {self.hostname: [request for request, _ in self._tasks(JobState.RUNNING)]}

    def reserved(self, **_options: Any) -> dict[str, list[dict[str, Any]]]:
        """Return the tasks that wait for room."""
        return {self.hostname: [request for request, _ in self._tasks(JobState.QUEUED)]}

    def scheduled(self, **_options: Any) -> dict[str, list[dict[str, Any]]]:
        """Return the tasks whose time has not come: each as `{"eta", "priority", "request"}`."""
        return {self.hostname: [as_scheduled(request, job) for request, job in self._tasks(JobState.SCHEDULED)]}

    def revoked(self) -> dict[str, list[str]]:
        """Return the ids of the last jobs that were cancelled."""
        return {self.hostname: [job.id for job in self._jobs(JobState.CANCELLED)]}

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the process's id and how many jobs run."""
        return {self.hostname: {"pid": os.getpid(), "active": len(self._jobs(JobState.RUNNING))}}

    def conf(self, with_defaults: bool = False) -> dict[str, dict[str, Any]]:
        """Return the settings, secrets as stars."""
        return {self.hostname: self._app.conf.table(with_defaults=with_defaults)}

    def active_queues(self) -> dict[str, list[dict[str, str]]]:
        """Return the queues of the tasks."""
        queues = sorted({task.policy.queue for task in self._app.tasks.values()})
        return {self.hostname: [{"name": queue} for queue in queues]}

    def _jobs(self, state: JobState) -> list[JobRecord]:
        door = self._app.door
        found: list[JobRecord] = door.block_on(lambda: door.jobs(states=[state]))
        return found

    def _tasks(self, state: JobState) -> Iterator[tuple[dict[str, Any], JobRecord]]:
        """Yield what there is to tell of each task that runs or is next, with its job; of jobs in one state."""
        door, app = self._app.door, current.app()

        async def due(job: JobRecord) -> list[AsyncResult]:
            try:
                return await due_tasks(app, job, await door.task_ids(job.id))
            except JobNotFoundError:  # it was forgotten meanwhile
                return []

        for job in self._jobs(state):
            for result in door.block_on(partial(due, job)):
                yield as_request(result, job, self.hostname), job
