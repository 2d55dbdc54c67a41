"""Builds: a flow is run while somebody looks, and what happens is streamed to whoever looks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from millstream.authoring.documents.flow import DocumentFlow
from millstream.model.event import START, Cursor
from millstream.model.job import JobState
from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute
from millstream.server.builds.grace import once_known
from millstream.server.builds.lines import NDJSON, SSE, framed
from millstream.server.builds.streams import LineStream
from millstream.server.builds.submitting import inputs_of, submit
from millstream.server.idempotency import GivenKey
from millstream.server.problem import Problem
from millstream.server.site import Here, Site

router = APIRouter(prefix="/api/v1/build", tags=["build"], route_class=JsonRoute)

Runs = Annotated[Principal, needs("run:write")]
Reads = Annotated[Principal, needs("run:read")]
Delivery = Annotated[
    Literal["streaming", "polling", "direct"],
    Field(description="How events are delivered: as a stream, to polls, or as a stream by this very request."),
]
_MOST_WAIT: Final = 60.0


class BuildInputs(BaseModel):
    """What a build starts with; a flow in Python takes its inputs by their names beside these."""

    model_config = ConfigDict(extra="allow")

    input_value: Annotated[str | None, Field(description="What is said to the flow.", examples=["hello"])] = None
    session: Annotated[str | None, Field(description="Id of the conversation; else one of its own.")] = None
    type: Annotated[str | None, Field(description="Which nodes take the input.", examples=["chat"])] = None


class BuildRequest(BaseModel):
    """A build."""

    inputs: BuildInputs | None = None
    data: Annotated[dict[str, Any] | None, Field(description="A document to run in place of the stored one.")] = None
    files: Annotated[list[str] | None, Field(description="Names of files.")] = None
    tweaks: Annotated[dict[str, Any] | None, Field(description="Values for this job: {node: {input: value}}.")] = None
    stream: Annotated[bool | None, Field(description="Without effect: tasks decide it.")] = None


class BuildStarted(BaseModel):
    """The job that a build is."""

    job_id: str


class Cancelled(BaseModel):
    """What became of a cancel."""

    success: bool
    message: str
    state: Annotated[str | None, Field(description="`cancelling`, where the job has not stopped yet.")] = None


class Options(BaseModel):
    """How a build is run, as its address says."""

    event_delivery: Delivery = "streaming"
    start_component_id: Annotated[str | None, Field(description="Run this node and what follows it.")] = None
    stop_component_id: Annotated[str | None, Field(description="Run this node and what it needs.")] = None
    log_builds: Annotated[bool, Field(description="Without effect: the ledger has every build.")] = True
    flow_name: Annotated[str | None, Field(description="Without effect: the flow has a name.")] = None


class Where(BaseModel):
    """How events are read, as the address says."""

    event_delivery: Delivery = "streaming"
    after: Annotated[str | None, Field(description="The cursor of the last event that was read.")] = None
    wait: Annotated[float, Field(ge=0, le=_MOST_WAIT, description="How long a poll waits for news; seconds.")] = 25.0


@router.post("/{flow_id}/flow", response_model=BuildStarted)
async def build_flow(
    request: Request,
    here: Here,
    who: Runs,
    key: GivenKey,
    flow_id: UUID,
    how: Annotated[Options, Query()],
    body: BuildRequest | None = None,
) -> Response:
    """Run a flow, and return the id of its job; its events are at `/api/v1/build/{job_id}/events`.

    The build is cancelled when all who looked at it have gone. With `event_delivery=direct` this answer is the stream.
    """
    given = body or BuildRequest()
    work = await here.works.by_id(str(flow_id), who.owner, given.data)
    if (how.start_component_id or how.stop_component_id) and isinstance(work, DocumentFlow):
        work = work.part(how.start_component_id, how.stop_component_id)
    told = {} if given.inputs is None else given.inputs.model_dump(exclude_unset=True)
    inputs = inputs_of(work, told, files=given.files, tweaks=given.tweaks)
    is_given = given.data is not None
    job = await submit(here.app, work, inputs, owner=who.user.id, key=key, is_given=is_given, is_interactive=True)
    watched = here.builds.begin(job, who.user.id, str(inputs.get("session") or ""), is_interactive=True)
    headers = {"Location": f"/api/v1/build/{job.id}/events"}
    if how.event_delivery == "direct":
        return LineStream(partial(here.builds.reading, watched), _kind(request), headers)
    return JSONResponse({"job_id": job.id}, headers=headers)


@router.get("/{job_id}/events", responses={200: {"content": {NDJSON: {}, SSE: {}}}})
async def read_build_events(
    request: Request,
    here: Here,
    who: Reads,
    job_id: str,
    how: Annotated[Where, Query()],
    last_event_id: Annotated[str | None, Header(description="As `after`, from a browser that comes again.")] = None,
) -> Response:
    """Stream the events of a job, all of them or those after a cursor; or return those that are there.

    A line of JSON and a blank one for each event, or server-sent events where `Accept` asks for them. A poll returns
    what is there, else waits for news; `X-Next-Cursor` is what the next poll begins after.
    """
    written = last_event_id or how.after
    cursor = START if written is None else Cursor.parse(written)
    is_polling = how.event_delivery == "polling"
    grace = min(here.startup_grace_seconds, how.wait) if is_polling else here.startup_grace_seconds
    watched = await once_known(partial(here.builds.find, job_id, who.owner), job_id, grace, here.clock)
    kind = _kind(request)
    if not is_polling:
        return LineStream(partial(here.builds.reading, watched, cursor), kind)
    with here.builds.reading(watched, cursor, is_poll=True) as reader:
        lines = await reader.next(how.wait)
    headers = {"X-Next-Cursor": str(lines[-1].cursor if lines else cursor), "Cache-Control": "no-store"}
    return Response(framed(lines, kind), headers=headers, media_type=kind)


@router.post("/{job_id}/cancel", response_model=Cancelled, response_model_exclude_none=True)
async def cancel_build(here: Here, who: Runs, job_id: str) -> Response:
    """Cancel a job. The answer is 200 when it is cancelled; 409 when it ended otherwise before."""
    return await _cancelled(here, (await here.builds.find(job_id, who.owner)).build.job_id)


async def _cancelled(here: Site, job_id: str) -> Response:
    record = await here.app.cancel(job_id)
    done = {"success": True, "message": "Flow build cancelled successfully"}
    if record.state is JobState.CANCELLED:
        return JSONResponse(done)
    if not record.state.is_final:
        return JSONResponse(done | {"state": "cancelling"})
    raise Problem(409, f"the job has {record.state} and cannot be cancelled any more", state=record.state)


def _kind(request: Request) -> str:
    """Return how a client wants its lines framed."""
    return SSE if SSE in request.headers.get("accept", "") else NDJSON
