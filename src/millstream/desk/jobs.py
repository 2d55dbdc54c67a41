"""What somebody who looks after jobs does with them: look, cancel, retry, forget; and what then became of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.desk.story import Story
from millstream.errors import AlreadyRetriedError, JobNotFoundError
from millstream.model.event import START, Cursor, Event
from millstream.model.job import JobRecord, JobState
from millstream.model.names import document_id

if TYPE_CHECKING:
    from millstream.app import Millstream

_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"

PAGE = 1000
"""Events and jobs that are read at a time."""

OPEN = tuple(state for state in JobState if not state.is_final)
"""The states of jobs that can be cancelled."""

ENDED = tuple(state for state in JobState if state.is_final)
"""The states of jobs that can be forgotten."""

UNHAPPY = (JobState.FAILED, JobState.CANCELLED)
"""The states of jobs that are retried without being named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one job.

    Attributes:
        job: Its id, or what was given for it.
        is_done: Whether what was asked is done.
        is_known: Whether there is such a job.
        said: The same for people.
        told: What programs are told beside that.
    """

    job: str
    is_done: bool
    said: str
    is_known: bool = True
    told: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def unknown(cls, job: str, error: JobNotFoundError) -> Answer:
        """Return what there is to say of a job that is not there."""
        return cls(job, is_done=False, said=str(error), is_known=False)

    def as_told(self) -> dict[str, Any]:
        """Return it for programs."""
        known = {"job_id": self.job, "is_done": self.is_done, "is_known": self.is_known, "said": self.said}
        return known | self.told


class JobDesk:
    """The jobs of an app's ledger: all of them, or those of one owner, to whom there are no others.

    Args:
        app: The app.
        owner: Id of the user whose jobs there are; `None` for all jobs, whoever has them.
    """

    def __init__(self, app: Millstream, owner: str | None = None) -> None:
        """Take the app."""
        self.app = app
        self.owner = owner

    # --------------------------------------------------------------------------------------------------- looking
    async def record(self, job_id: str) -> JobRecord:
        """Return what the ledger says of a job.

        Raises:
            JobNotFoundError: There is none, or it is somebody else's: both are told alike.
        """
        record = await self.app.record(job_id)
        if self.owner not in (None, record.owner):
            raise JobNotFoundError(f"there is no job {job_id!r}")
        return record

    async def locate(self, task_id: str) -> str | None:
        """Return the id of the job that a task id belongs to; a job's own id is one. `None` where there is no job."""
        place = await self.app.locate(task_id)
        return place[0] if place is not None and await self._has(place[0]) else None

    def names(self) -> Collection[str]:
        """Return the names of flows and tasks that the app knows."""
        return self.app.registry.names()

    async def begins(self, start: str) -> list[str]:
        """Return ids of jobs that begin so: two at most, which is enough to know that there is not only one."""
        above = start + _LAST[len(start) :]
        found = await self.page({}, before=above, limit=2)
        return [record.id for record in found if record.id.startswith(start)]

    async def page(self, asked: Mapping[str, Any], *, before: str | None = None, limit: int = PAGE) -> list[JobRecord]:
        """Return jobs, the newest first.

        Args:
            asked: Which, as `Millstream.jobs` takes it.
            before: Only jobs older than the one with this id.
            limit: At most this many.
        """
        return await self.app.jobs(**asked, before=before, limit=limit, owner=self.owner)

    async def flow_names(self, records: Iterable[JobRecord]) -> dict[str, str]:
        """Return what people call the stored flows of jobs, by the flow's name in the record: one look-up for all.

        Flows of code have no other name; one that was removed, or is somebody else's, is left out.
        """
        asked = {flow_id: record.flow for record in records if (flow_id := document_id(record.flow)) is not None}
        named = await (await self.app.flow_store()).names(asked, self.owner) if asked else {}
        return {asked[flow_id]: name for flow_id, name in named.items()}

    async def events(self, job_id: str, after: Cursor = START, *, follow: bool = False) -> AsyncIterator[Event]:
        """Yield the durable events that there are of a job after a cursor; with `follow` all, until it has ended."""
        await self.record(job_id)
        if follow:
            async for event in self.app.read_events(job_id, after):
                yield event
            return
        while page := await self.app.recorded(job_id, after, PAGE):
            for event in page:
                yield event
            after = page[-1].cursor

    async def look(self, job_id: str) -> tuple[JobRecord, Story]:
        """Return a job, and how it went so far.

        Raises:
            JobNotFoundError: There is none.
        """
        record, story = await self.record(job_id), Story()
        async for event in self.events(job_id):
            story.take(event)
        return record, story

    # ---------------------------------------------------------------------------------------------------- acting
    async def cancel(self, job_ids: Sequence[str]) -> list[Answer]:
        """Ask jobs to stop, and say of each how it then stands."""
        return await _each(self._cancel, job_ids)

    async def retry(
        self, job_ids: Sequence[str], *, from_start: bool = False, once: bool = False, key: str | None = None
    ) -> list[Answer]:
        """Submit jobs that have ended once more; see `Millstream.retry`.

        Args:
            job_ids: The jobs.
            from_start: Take over nothing.
            once: Leave alone what was retried before.
            key: An idempotency key, of which each job gets one of its own: what is asked twice is done once.
        """
        return await _each(partial(self._retry, from_start=from_start, once=once, key=key), job_ids)

    async def purge(self, job_ids: Sequence[str]) -> list[Answer]:
        """Forget those of these jobs that have ended."""
        mine = job_ids if self.owner is None else [job_id for job_id in job_ids if await self._has(job_id)]
        gone = set(await self.app.purge(mine))
        kept = iter(await _each(self._keep, [job_id for job_id in job_ids if job_id not in gone]))
        return [Answer(job_id, is_done=True, said="purged") if job_id in gone else next(kept) for job_id in job_ids]

    async def approve(self, job_id: str, node: str, answer: Any) -> bool:
        """Answer what waits at a node; return whether something waited there (see `Millstream.approve`)."""
        await self.record(job_id)
        return await self.app.approve(job_id, node, answer)

    async def _has(self, job_id: str) -> bool:
        try:
            await self.record(job_id)
        except JobNotFoundError:
            return False
        return True

    async def _cancel(self, job_id: str) -> Answer:
        await self.record(job_id)
        record = await self.app.cancel(job_id)
        told = {"state": record.state, "cancel_requested": record.cancel_requested}
        if record.state is JobState.CANCELLED:
            return Answer(job_id, is_done=True, said="cancelled", told=told)
        if record.state.is_final:
            return Answer(job_id, is_done=False, said=f"had ended before: it {record.state}", told=told)
        return Answer(job_id, is_done=True, said=f"asked to stop; it is still {record.state}", told=told)

    async def _retry(self, job_id: str, *, from_start: bool, once: bool, key: str | None) -> Answer:
        record = await self.record(job_id)
        refused = partial(Answer, job_id, is_done=False, told={"new_job_id": None})
        if not record.state.is_final:
            return refused(said=f"has not ended: it is {record.state}; cancel it first")
        if record.state is JobState.SUCCEEDED and not from_start:
            return refused(said="has succeeded, so nothing is left to do; --from-start runs it again")
        try:
            own = None if once or key is None else f"{key}/{job_id}"
            job = await self.app.retry(job_id, from_start=from_start, once=once, idempotency_key=own)
        except AlreadyRetriedError as error:
            said = f"was retried before, as {error.by}; name it to retry it once more"
            return Answer(job_id, is_done=True, said=said, told={"new_job_id": error.by})
        how = "runs again" if from_start else "goes on"
        return Answer(job_id, is_done=True, said=f"{how} as {job.id}", told={"new_job_id": job.id})

    async def _keep(self, job_id: str) -> Answer:
        state = (await self.record(job_id)).state
        return Answer(job_id, is_done=False, said=f"kept: it is {state}; cancel it first")


async def _each(act: Callable[[str], Awaitable[Answer]], job_ids: Sequence[str]) -> list[Answer]:
    """Do something to some jobs at once: they share the commits of the ledger."""

    async def answered(job_id: str) -> Answer:
        try:
            return await act(job_id)
        except JobNotFoundError as error:
            return Answer.unknown(job_id, error)

    return list(await asyncio.gather(*(answered(job_id) for job_id in job_ids)))
