"""Jobs, whichever way they were started: all in one list, each with its events, and what can be done to it.

Users have their own jobs; superusers all of them, and those that nobody has (of scripts and the command line).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from millstream.desk.jobs import JobDesk
from millstream.desk.story import NodeStory
from millstream.model.event import START, Cursor, Event
from millstream.model.job import Decision, JobRecord, JobState, Reason
from millstream.server import told
from millstream.server.access.principal import Principal, needs
from millstream.server.builds.lines import SSE
from millstream.server.happening import Happening
from millstream.server.idempotency import GivenKey, scoped
from millstream.server.pages import Chosen, Paged, next_page, time_of
from millstream.server.problem import Problem
from millstream.server.site import Here, Site
from millstream.server.strict import StrictBody, StrictRoute
from millstream.server.waiting import Preferred

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], route_class=StrictRoute)

Reads = Annotated[Principal, needs("jobs:read")]
Writes = Annotated[Principal, needs("jobs:write")]

_LISTED: Final = "jobs"
_FOR_PEOPLE: Final = frozenset(
    {"started", "log", "progress", "node_retried", "node_failed", "waiting", "answered", "ended"}
)


def desk_of(here: Site, caller: Principal) -> JobDesk:
    """Return the jobs that there are for who asks."""
    return JobDesk(here.app, caller.owner)


# ----------------------------------------------------------------------------------------------------------- looking
class More(BaseModel):
    """What a list of jobs can be asked for beside state, flow and time."""

    reason: Annotated[Reason | None, Field(description="Jobs with this reason.")] = None
    before: Annotated[
        datetime | None, BeforeValidator(time_of), Field(description="Submitted before then, as `since`.")
    ] = None
    after_id: Annotated[str | None, Field(max_length=100, description="What comes behind this job.")] = None
    begins: Annotated[
        str | None, Field(pattern=r"^[0-9a-f]{4,8}(-[0-9a-f-]{0,27})?$", description="Whose id begins so.")
    ] = None
    task: Annotated[str | None, Field(max_length=500, description="The one that a task's id belongs to.")] = None


@router.get("")
async def list_jobs(
    request: Request, here: Here, caller: Reads, page: Paged, chosen: Chosen, more: Annotated[More, Query()]
) -> Response:
    """List jobs, the newest first."""
    desk, place = desk_of(here, caller), page.after(_LISTED)
    if more.task is not None:
        found = await desk.locate(more.task)
        return await _listed(desk, caller, [] if found is None else [await desk.record(found)])
    if more.begins is not None:
        return await _listed(desk, caller, [await desk.record(job_id) for job_id in await desk.begins(more.begins)])
    last = more.after_id if place is None else place[0]
    records = await here.app.jobs(
        states=chosen.states,
        flow=chosen.flow,
        owner=caller.owner,
        reason=more.reason,
        created_after=chosen.since,
        created_before=more.before,
        before=last if chosen.newest_first else None,
        after=None if chosen.newest_first else last,
        oldest_first=not chosen.newest_first,
        limit=page.limit + 1,
    )
    shown = records[: page.limit]
    headers = next_page(request, _LISTED, [shown[-1].id]) if len(records) > page.limit else {}
    return await _listed(desk, caller, shown, headers)


async def _listed(
    desk: JobDesk, caller: Principal, records: Sequence[JobRecord], headers: dict[str, str] | None = None
) -> Response:
    names = await desk.flow_names(records)
    return told.answer([told.job(record, caller, names) for record in records], headers=headers)


@router.get("/{job_id}")
async def show_job(here: Here, caller: Reads, job_id: str) -> Response:
    """Return all that there is to say of a job: state, reason, inputs, result, error, and how its nodes go."""
    return told.answer(await _whole(desk_of(here, caller), caller, job_id))


async def _whole(desk: JobDesk, caller: Principal, job_id: str) -> dict[str, Any]:
    record, story = await desk.look(job_id)
    return told.whole(record, story, caller, await desk.flow_names([record]))


Accept = Annotated[str, Header(description=f"`{SSE}` for server-sent events; else a line of JSON each.")]


@router.get("/{job_id}/events")
async def stream_events(
    here: Here,
    caller: Reads,
    job_id: str,
    accept: Accept = "",
    after: Annotated[str | None, Query(description="Only what came after this cursor, such as 12-0.")] = None,
    last_event_id: Annotated[str | None, Header(description="As `after`; what a stream that broke sends.")] = None,
    follow: Annotated[bool, Query(description="Go on until the job has ended.")] = True,  # noqa: FBT002  a query
) -> Response:
    """Stream what happened in a job, and what happens, to its end."""
    return await _happening(here, caller, job_id, last_event_id or after, accept, follow=follow, only=None)


@router.get("/{job_id}/logs")
async def stream_logs(
    here: Here,
    caller: Reads,
    job_id: str,
    accept: Accept = "",
    follow: Annotated[bool, Query(description="Go on until the job has ended.")] = False,  # noqa: FBT002  a query
) -> Response:
    """Stream the events of a job that are for people: what it logs, attempts, failures, retries, waits, the end."""
    return await _happening(here, caller, job_id, None, accept, follow=follow, only=_FOR_PEOPLE)


async def _happening(
    here: Site,
    caller: Principal,
    job_id: str,
    after: str | None,
    accept: str,
    *,
    follow: bool,
    only: frozenset[str] | None,
) -> Response:
    cursor = START if after is None else Cursor.parse(after)
    record = await desk_of(here, caller).record(job_id)

    async def events() -> AsyncGenerator[Event, None]:
        if follow:
            async for event in here.app.read_events(job_id, cursor):
                if only is None or event.type in only:
                    yield event
            return
        for event in await here.app.known(job_id, cursor):
            if only is None or event.type in only:
                yield event

    def tell(event: Event) -> dict[str, Any]:
        return told.event(event, record, caller)

    return Happening(events(), tell, here.stopping, sse=SSE in accept)


# ------------------------------------------------------------------------------------------------------------ acting
@router.post("/{job_id}/cancel")
async def cancel(here: Here, caller: Writes, job_id: str) -> Response:
    """Ask a job to stop: 200 when it is cancelled, 202 while it still stops, 409 when it had ended otherwise."""
    await desk_of(here, caller).record(job_id)
    record = await here.app.cancel(job_id)
    if record.state.is_final and record.state is not JobState.CANCELLED:
        raise Problem(409, f"job {job_id} had ended before: it {record.state}", state=record.state)
    content = {"job_id": job_id, "state": record.state, "cancel_requested": record.cancel_requested}
    if record.state is JobState.CANCELLED:
        return told.answer(content)
    return told.answer(content, 202, {"Location": _address(job_id)})


class Again(StrictBody):
    """How a job is run once more."""

    from_start: bool = Field(default=False, description="Take over nothing that succeeded.")
    from_node: str | None = Field(default=None, description="Not there yet.")
    inputs: dict[str, Any] | None = Field(default=None, description="Not there yet.")


@router.post("/{job_id}/retry", status_code=202)
async def retry(
    here: Here, caller: Writes, job_id: str, key: GivenKey, preferred: Preferred, again: Again | None = None
) -> Response:
    """Submit a job that has ended once more: a new job with the same inputs, which takes over what succeeded."""
    again, desk = again or Again(), desk_of(here, caller)
    record = await desk.record(job_id)
    if again.from_node is not None or again.inputs is not None:
        raise Problem(501, "from_node and inputs are not there yet; leave them out")
    if record.state is JobState.SUCCEEDED and not again.from_start:
        raise Problem(409, f"job {job_id} has succeeded, so nothing is left to do; from_start runs it again")
    job = await here.app.retry(job_id, from_start=again.from_start, idempotency_key=scoped(caller.user.id, key))
    headers = {"Location": _address(job.id), **preferred.applied}
    if await preferred.ended(here, job.id) is not None:
        return told.answer(await _whole(desk, caller, job.id), headers=headers)
    return told.answer({"job_id": job.id, "repeats": job_id}, 202, headers)


class Reply(StrictBody):
    """An answer to an approval, or a decision about a node that must run only once and may have run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"answer": {"by": "Ada"}}, {"decision": "repeat"}]})

    node: str | None = Field(default=None, max_length=2000, description="Where it waits, if in several places.")
    answer: Any = Field(default=True, description="The answer of an approval.")
    decision: Literal["repeat", "done", "fail"] | None = Field(default=None, description="The decision, if one is due.")
    value: Any = Field(default=None, description="With the decision `done`, the result that the node had.")

    def said(self) -> Any:
        """Return what the job is told."""
        return self.answer if self.decision is None else Decision(self.decision, self.value)


@router.post("/{job_id}/approve")
async def approve(here: Here, caller: Writes, job_id: str, reply: Reply | None = None) -> Response:
    """Answer the approval at which a job waits, or decide what is to be decided."""
    reply, desk = reply or Reply(), desk_of(here, caller)
    record, story = await desk.look(job_id)
    asking = [] if record.state.is_final else story.asking()
    node = _meant(job_id, reply.node, asking)
    if not await desk.approve(job_id, node.path, reply.said()):
        raise Problem(409, f"node {node.path} of job {job_id} waits no more")
    return told.answer({"job_id": job_id, "node": node.path, "is_done": True})


def _meant(job_id: str, path: str | None, asking: list[NodeStory]) -> NodeStory:
    """Return the node that waits, by its path; without a path, the only one.

    Raises:
        Problem: There is none, or it is not clear which is meant (409).
    """
    found = [node for node in asking if path in (None, node.path)]
    if len(found) == 1:
        return found[0]
    places = ", ".join(node.path for node in asking)
    if not asking:
        raise Problem(409, f"job {job_id} waits for no answer")
    what = "waits in several places; name one" if path is None else f"does not wait at {path}, but"
    raise Problem(409, f"job {job_id} {what}: {places}")


def _address(job_id: str) -> str:
    return f"{router.prefix}/{job_id}"
