"""The jobs of a server, for the same commands: asked over HTTP, and read back into what a ledger would have said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, cast

from millstream import client as http
from millstream.cli.exits import AwayError, WrongUseError
from millstream.desk.jobs import PAGE, Answer
from millstream.desk.story import Begun, NodeStory, Story
from millstream.errors import JobNotFoundError
from millstream.model.event import START, Cursor, Event
from millstream.model.failure import Failure
from millstream.model.job import Decision, Durability, JobRecord, JobState, Reason

_AT_ONCE = 1000
_ERROR = frozenset({"type", "message", "node", "traceback"})


@asynccontextmanager
async def asked(url: str, api_key: str | None) -> AsyncIterator[RemoteDesk]:
    """Ask a server within the block.

    Raises:
        AwayError: It cannot be reached, or cannot serve.
        JobNotFoundError: It has no such job.
        WrongUseError: It does not do what it is asked for.
    """
    try:
        client = http.AsyncClient(url, api_key=api_key)
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    try:
        async with client:
            yield RemoteDesk(client)
    except (http.UnreachableError, http.UnavailableError, http.TooManyRequestsError) as error:
        raise AwayError(f"{url} does not answer as it should: {error}") from error
    except http.NotFoundError as error:
        raise JobNotFoundError(str(error.problem.get("detail", error))) from error
    except http.UnauthorizedError as error:
        raise WrongUseError(f"{url} does not know who asks: give --api-key, or set MILLSTREAM_API_KEY") from error
    except http.ClientError as error:
        raise WrongUseError(f"{url} refuses: {error}") from error


class RemoteDesk:
    """The jobs of a server; see `Desk`.

    Args:
        client: Asks it.
    """

    def __init__(self, client: http.AsyncClient) -> None:
        """Ask nothing yet."""
        self._client = client
        self._names: dict[str, str] = {}

    def names(self) -> Collection[str]:
        """Return no names: those that the server knows are its own affair."""
        return ()

    async def locate(self, task_id: str) -> str | None:
        """Return the id of the job that a task id belongs to."""
        found = [job.job_id async for job in self._client.jobs(task=task_id)]
        return found[0] if found else None

    async def begins(self, start: str) -> list[str]:
        """Return ids of jobs that begin so, two at most."""
        return [job.job_id async for job in self._client.jobs(begins=start)]

    async def page(self, asked: Mapping[str, Any], *, before: str | None = None, limit: int = PAGE) -> list[JobRecord]:
        """Return jobs that are asked for, the newest first."""
        chosen = {
            "state": ",".join(asked.get("states") or ()) or None,
            "flow": asked.get("flow"),
            "reason": asked.get("reason"),
            "since": _iso(asked.get("created_after")),
            "before": _iso(asked.get("created_before")),
            "after_id": before,
        }
        return [self._record(job) async for job in self._client.jobs(limit=limit, **chosen)]

    async def look(self, job_id: str) -> tuple[JobRecord, Story]:
        """Return a job, and how it went so far."""
        job = await self._client.job(job_id)
        return self._record(job), _story(job)

    async def flow_names(self, records: Iterable[JobRecord]) -> dict[str, str]:
        """Return what people call the stored flows of jobs: the server said it with these."""
        return {record.flow: self._names[record.flow] for record in records if record.flow in self._names}

    async def events(self, job_id: str, after: Cursor = START, *, follow: bool = False) -> AsyncIterator[Event]:
        """Yield the events of a job."""
        cursor = None if after == START else str(after)
        if follow:
            async for event in self._client.events(job_id, cursor):
                yield _event(event)
            return
        for event in await self._client.known_events(job_id, cursor):
            yield _event(event)

    async def cancel(self, job_ids: Sequence[str]) -> list[Answer]:
        """Ask jobs to stop."""
        return [
            _answer(told, {"state": told.state, "cancel_requested": told.cancel_requested})
            for told in await self._act("cancel", job_ids)
        ]

    async def retry(self, job_ids: Sequence[str], *, from_start: bool = False, once: bool = False) -> list[Answer]:
        """Submit jobs that have ended once more."""
        answers = await self._act("retry", job_ids, from_start=from_start, once=once)
        return [_answer(told, {"new_job_id": told.new_job_id}) for told in answers]

    async def purge(self, job_ids: Sequence[str]) -> list[Answer]:
        """Forget jobs that have ended."""
        return [_answer(told, {}) for told in await self._act("purge", job_ids)]

    async def approve(self, job_id: str, node: str, answer: Any) -> bool:
        """Answer what waits at a node; return whether something waited there."""
        try:
            if isinstance(answer, Decision):
                await self._client.decide(job_id, answer.what, answer.value, node=node)
            else:
                await self._client.approve(job_id, answer, node=node)
        except http.ConflictError:
            return False
        return True

    def _record(self, job: http.Job) -> JobRecord:
        if job.flow_name is not None:
            self._names[job.flow] = job.flow_name
        return _record(job)

    async def _act(self, action: http.Act, job_ids: Sequence[str], **how: Any) -> list[http.Answer]:
        answers: list[http.Answer] = []
        for first in range(0, len(job_ids), _AT_ONCE):
            answers += (await self._client.act(action, job_ids[first : first + _AT_ONCE], **how)).answers
        return answers


class _Shown:
    """Stands for a value that has no form in JSON, of which only what Python shows came over."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return str(self._shown)


def _record(job: http.Job) -> JobRecord:
    return JobRecord(
        id=job.job_id,
        flow=job.flow,
        version=job.version,
        graph="",
        state=JobState(job.state),
        created_at=job.created_at.timestamp(),
        inputs=job.inputs,
        reason=cast("Reason | None", job.reason),
        cancel_requested=job.cancel_requested,
        priority=job.priority,
        result=_Shown(job.result) if job.result_is_repr else job.result,
        error=_failure(job.error),
        started_at=_seconds(job.started_at),
        ended_at=_seconds(job.ended_at),
        starts_at=_seconds(job.starts_at),
        expires_at=_seconds(job.expires_at),
        durability=cast("Durability", job.durability),
        parent=job.parent,
        owner=job.owner,
    )


def _story(job: http.Job) -> Story:
    nodes = [
        NodeStory(
            path=node.node,
            state=node.state,
            at=node.at.timestamp(),
            attempt=node.attempt,
            reason=node.reason,
            until=_seconds(node.until),
            question=node.question,
            error=_failure(node.error),
        )
        for node in job.nodes
    ]
    return Story(
        repeats=job.repeats,
        known=job.nodes_known,
        nodes={node.path: node for node in nodes},
        attempts=[Begun(begun.attempt, begun.process, begun.at.timestamp()) for begun in job.attempts],
    )


def _event(event: http.Event) -> Event:
    seq, k = Cursor.parse(event.cursor)
    return Event(seq, k, event.type, event.at.timestamp(), event.node, _data(event.data))


def _data(data: Any) -> Any:
    """Return an event's data, with its error as the failure that it was."""
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict) or error.keys() != _ERROR:
        return data
    return data | {"error": Failure(**error | {"traceback": error["traceback"] or ""})}


def _failure(error: http.Failure | None) -> Failure | None:
    if error is None:
        return None
    return Failure(type=error.type, message=error.message, node=error.node, traceback=error.traceback or "")


def _answer(told: http.Answer, more: dict[str, Any]) -> Answer:
    kept = more if told.is_known else {}
    return Answer(told.job_id, is_done=told.is_done, said=told.said, is_known=told.is_known, told=kept)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
