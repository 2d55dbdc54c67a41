"""Tasks and jobs on the server: submitted, followed, and seen to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

import msgspec

from millstream.client.calls import Calls, path_of, read
from millstream.client.shapes import Act, Answers, Cancelled, Event, Job, TaskStatus
from millstream.errors import ResultTimeoutError

_CANCEL_SECONDS: Final = 10.0
"""Beyond the time-out: a server takes two seconds to say that something still stops."""


class JobCalls(Calls):
    """What is asked of tasks and jobs."""

    async def submit(self, task: str | None, /, *args: Any, key: str | None = None, **kwargs: Any) -> str:
        """Submit a task or a flow that the server has loaded, and return the id of its job.

        Args:
            task: Its name; `None` for the example that waits `duration` seconds.
            args: Its inputs by position.
            key: An idempotency key of your own.
            kwargs: Its inputs by name.

        Raises:
            NotFoundError: The server knows no task of this name.
            InvalidRequestError: The inputs do not fit.
        """
        body = {"task": task, "args": args, "kwargs": kwargs}
        return read(await self._start("/run-task", body, key), TaskStatus).task_id

    async def status(self, task_id: str) -> TaskStatus:
        """Return how a task stands, under Celery's names.

        Raises:
            NotFoundError: There is none.
        """
        return read(await self._wire.ask("GET", f"/task-status/{quote(task_id, safe='')}"), TaskStatus)

    # ----------------------------------------------------------------------------------------------------------- jobs
    async def job(self, job_id: str) -> Job:
        """Return a job, and how its nodes go.

        Raises:
            NotFoundError: There is none.
        """
        return read(await self._wire.ask("GET", path_of("jobs", job_id)), Job)

    async def jobs(self, /, *, limit: int | None = None, **chosen: Any) -> AsyncGenerator[Job, None]:
        """Yield jobs, the newest first, without their nodes.

        Args:
            limit: At most this many; all without.
            chosen: `state` (several with commas between), `flow`, `reason`, `since` and `before` (`2h`, or a time),
                `sort` (`created_at` for the oldest first), `begins` (of an id), `task` (a task's id),
                `after_id` (what comes behind this job).
        """
        left = limit
        params = {"limit": min(limit or 1000, 1000), **chosen}
        async with aclosing(self._pages("/api/v1/jobs", params)) as pages:
            async for page in pages:
                for job in read(page, list[Job]):
                    if left == 0:
                        return
                    left = None if left is None else left - 1
                    yield job

    async def events(self, job_id: str, after: str | None = None) -> AsyncGenerator[Event, None]:
        """Yield what happens in a job, each event once, to its end.

        Args:
            job_id: The job.
            after: Only what came after this cursor.

        Raises:
            NotFoundError: There is none.
        """
        async with aclosing(self._wire.follow(f"{path_of('jobs', job_id)}/events", {}, after)) as messages:
            async for message in messages:
                event = msgspec.json.decode(message.data, type=Event)
                yield event
                if event.type == "ended":
                    return

    async def known_events(self, job_id: str, after: str | None = None) -> list[Event]:
        """Return what has happened in a job by now.

        Raises:
            NotFoundError: There is none.
        """
        asked = {"follow": "false", "after": after}
        answer = await self._wire.ask("GET", f"{path_of('jobs', job_id)}/events", params=asked)
        return [msgspec.json.decode(line, type=Event) for line in answer.content.split(b"\n") if line]

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:  # noqa: ASYNC109  as `get` has it
        """Wait until a job has ended, and return it.

        Args:
            job_id: The job.
            timeout: Seconds to wait at most.

        Raises:
            NotFoundError: There is none.
            ResultTimeoutError: It has not ended in time; it goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (job := await self.job(job_id)).has_ended:
                    async with aclosing(self.events(job_id)) as events:
                        async for _ in events:
                            pass
        except TimeoutError:
            raise ResultTimeoutError(f"job {job_id} has not ended within {timeout:g} s") from None
        return job

    async def cancel(self, job_id: str) -> Cancelled:
        """Ask a job to stop, and return how it then stands.

        Raises:
            NotFoundError: There is none.
            ConflictError: It had ended otherwise before; `problem["state"]` says how.
        """
        path = f"{path_of('jobs', job_id)}/cancel"
        return read(await self._wire.ask("POST", path, is_safe=True, patience=_CANCEL_SECONDS), Cancelled)

    async def retry(self, job_id: str, *, from_start: bool = False, key: str | None = None) -> str:
        """Submit a job that has ended once more, and return the new one's id.

        Raises:
            NotFoundError: There is none.
            ConflictError: It has not ended, or has succeeded and is not run again from its start.
        """
        answer = await self._start(f"{path_of('jobs', job_id)}/retry", {"from_start": from_start}, key)
        return str(read(answer, dict[str, Any])["job_id"])

    async def approve(self, job_id: str, answer: Any = True, *, node: str | None = None) -> None:  # noqa: FBT002
        """Answer the approval at which a job waits.

        Args:
            job_id: The job.
            answer: The answer.
            node: Where it waits, if in several places.

        Raises:
            NotFoundError: There is none.
            ConflictError: Nothing waits there.
        """
        body = {"answer": answer} | ({} if node is None else {"node": node})
        await self._wire.ask("POST", f"{path_of('jobs', job_id)}/approve", json=body)

    async def decide(self, job_id: str, decision: str, value: Any = None, *, node: str | None = None) -> None:
        """Say what holds of a node that must run only once and may have run: `repeat`, `done` (`value`), or `fail`.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: Nothing waits there.
        """
        body = {"decision": decision, "value": value} | ({} if node is None else {"node": node})
        await self._wire.ask("POST", f"{path_of('jobs', job_id)}/approve", json=body)

    async def act(
        self,
        action: Act,
        job_ids: Sequence[str] | None = None,
        *,
        chosen: dict[str, Any] | None = None,
        from_start: bool = False,
        once: bool | None = None,
    ) -> Answers:
        """Cancel, retry or purge many jobs, and say of each what became of it.

        Args:
            action: What is done.
            job_ids: To these jobs, 1000 at most.
            chosen: Or to those of `state` (a list), `flow`, `reason`, `since`, `before`: 1000 at most.
            from_start: To retry: take over nothing.
            once: To retry: leave alone what was retried before; by default those of a choice.

        Raises:
            InvalidRequestError: Neither or both are given, or too many.
        """
        body: dict[str, Any] = {"action": action, "from_start": from_start, "once": once}
        body |= {} if job_ids is None else {"ids": list(job_ids)}
        body |= {} if chosen is None else {"filter": chosen}
        return read(await self._start("/api/v1/jobs/actions", body, None, patience=_CANCEL_SECONDS), Answers)
