"""`app.control`: revoke tasks, and ask what runs, and the workers what they are."""

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

    def inspect(self, *args: Any, **options: Any) -> Inspect:
        """Return what answers questions: about this process, or with `celery_enabled` about the workers."""
        if self._app.door.settings.celery_enabled:
            return InspectWorkers(self._app, self._app.celery_app.control.inspect(*args, **options))
        return Inspect(self._app)

    def ping(self, **options: Any) -> list[dict[str, Any]]:
        """Return the answers of the workers, or of this process where it runs the tasks."""
        return [{name: answer} for name, answer in (self.inspect(**options).ping() or {}).items()]

    def __getattr__(self, name: str) -> Any:
        """Return what only workers can be told, such as `add_consumer`, `pool_grow` or `broadcast`.

        Raises:
            AttributeError: There are no workers, since `celery_enabled` is off; or Celery has no such command.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        if not self._app.door.settings.celery_enabled:
            raise AttributeError(f"control.{name} speaks to Celery workers, and celery_enabled is off")
        return getattr(self._app.celery_app.control, name)


class Inspect:
    """Answers Celery's questions to workers, for the ledger as this process sees it.

    Each answer is a dict of one entry, by the name of this process.

    Args:
        app: The app.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.hostname = f"millstream@{socket.gethostname()}"

    def ping(self) -> dict[str, dict[str, str]] | None:
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


class InspectWorkers(Inspect):
    """Answers Celery's questions where workers run the tasks: what the ledger does not know, they are asked.

    `active`, `reserved`, `scheduled` and `revoked` are of the ledger, which knows the tasks of all workers; the others
    have one entry for each worker that answers, and are `None` where none does.

    Args:
        app: The app.
        asked: Celery's own `inspect()`.
    """

    def __init__(self, app: Celery, asked: Any) -> None:
        super().__init__(app)
        self._asked = asked

    def ping(self) -> dict[str, dict[str, str]] | None:
        """Return which workers are there."""
        return self._asked.ping()  # type: ignore[no-any-return]  # Celery has no types

    def registered(self, *items: str) -> dict[str, list[str]]:
        """Return the names of the tasks that the workers know."""
        return self._asked.registered(*items)  # type: ignore[no-any-return]  # as above

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return what the workers say of themselves."""
        return self._asked.stats()  # type: ignore[no-any-return]  # as above

    def active_queues(self) -> dict[str, list[dict[str, Any]]]:
        """Return the queues that the workers serve."""
        return self._asked.active_queues()  # type: ignore[no-any-return]  # as above

    def conf(self, with_defaults: bool = False) -> dict[str, dict[str, Any]]:
        """Return the settings of the workers, secrets as stars."""
        return self._asked.conf(with_defaults)  # type: ignore[no-any-return]  # as above

    def __getattr__(self, name: str) -> Any:
        """Return what only workers can tell, such as `memsample` or `query_task`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._asked, name)
