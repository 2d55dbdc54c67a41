"""Runs: a flow is run once, and what it gives is the answer."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.registry import Definition
from millstream.errors import InvalidInputError
from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute
from millstream.server.builds.builds import Watched
from millstream.server.builds.lines import SSE
from millstream.server.builds.running import Outputs, RunStream, stopped_when_gone
from millstream.server.builds.submitting import inputs_of, submit
from millstream.server.idempotency import GivenKey
from millstream.server.problem import Problem
from millstream.server.site import Here, Site
from millstream.server.waiting import Preference, Preferred

router = APIRouter(prefix="/api/v1/run", tags=["run"], route_class=JsonRoute)

Runs = Annotated[Principal, needs("run:write")]


class RunRequest(BaseModel):
    """A run."""

    input_value: Annotated[str, Field(description="What is said to the flow.", examples=["hello"])] = ""
    input_type: Annotated[str, Field(description="Which nodes take the input.")] = "chat"
    output_type: Annotated[str | None, Field(description="Which outputs are told; any, or debug for all nodes.")] = None
    tweaks: Annotated[dict[str, Any] | None, Field(description="Values for this job: {node: {input: value}}.")] = None
    session_id: Annotated[str | None, Field(description="Id of the conversation; else one of its own.")] = None
    inputs: Annotated[dict[str, Any] | None, Field(description="Inputs by name, of a flow in Python.")] = None

    def told(self) -> dict[str, Any]:
        """Return what is said of the conversation, under the names that builds have for it."""
        names = {"input_value": "input_value", "input_type": "type", "session_id": "session"}
        return {names[name]: getattr(self, name) for name in self.model_fields_set & names.keys()}


class RunOutputs(BaseModel):
    """What a run was given, and what it gave."""

    inputs: dict[str, Any]
    outputs: list[dict[str, Any]]


class RunAnswer(BaseModel):
    """What a run gave."""

    session_id: str
    outputs: list[RunOutputs]


class RunGoesOn(BaseModel):
    """A run that goes on behind the answer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"job_id": "01a2000d-9918-7665-af65-129939a1119b", "status": "in progress"}]}
    )

    job_id: str
    status: str


@router.post("/{flow_id_or_name}", response_model=RunAnswer, responses={202: {"model": RunGoesOn}})
async def run_flow(
    request: Request,
    here: Here,
    who: Runs,
    key: GivenKey,
    preferred: Preferred,
    flow_id_or_name: str,
    body: RunRequest | None = None,
    *,
    stream: Annotated[bool, Query(description="Whether the answer is a stream of server-sent events.")] = False,
) -> Response:
    """Run a flow, wait for its end, and return its outputs; with `stream=true` also what happens before.

    With `Prefer: wait=10` the answer is 202 where it takes longer, and so it is where people are asked something.
    """
    given = body or RunRequest()
    work = await here.works.by_name(flow_id_or_name, who.owner, who.user.id)
    told = given.told() | (given.inputs or {})
    _check_takes_input(work, told.get("input_value"))
    inputs = inputs_of(work, told, tweaks=given.tweaks)
    job = await submit(here.app, work, inputs, owner=who.user.id, key=key)
    watched = here.builds.begin(job, who.user.id, given.session_id or "", is_interactive=False)
    outputs, shown = Outputs(work, given.output_type), {"input_value": given.input_value}
    headers = {"Location": f"/api/v1/jobs/{job.id}", **preferred.applied}
    if stream:
        reading = partial(here.builds.reading, watched)
        return RunStream(reading, SSE, headers, outputs=outputs, session=watched.build.session, inputs=shown)
    await _collect(request, here, watched, outputs, preferred)
    if outputs.end is None:
        return JSONResponse({"job_id": job.id, "status": "in progress"}, 202, headers)
    _check(outputs, job.id)
    return JSONResponse(outputs.told(watched.build.session, shown), headers=headers)


def _check_takes_input(work: Definition, said: Any) -> None:
    """Refuse to run a flow in Python without what is said to it; builds leave that aside, since all clients send it.

    Raises:
        InvalidInputError: There is something said, and the flow has no `input_value`.
    """
    takes = work.inputs.signature.parameters
    if said and not isinstance(work, DocumentFlow) and "input_value" not in takes:
        there_are = f'it takes {", ".join(takes)}, in "inputs"' if takes else "it takes no inputs"
        raise InvalidInputError(f"{work.name} has no input_value: {there_are}")


async def _collect(request: Request, here: Site, watched: Watched, outputs: Outputs, preferred: Preference) -> None:
    """Collect outputs until the run has ended, asks people, or nobody waits for it any more."""
    with here.builds.reading(watched) as reader:
        async with stopped_when_gone(request, reader):
            until = None if preferred.seconds is None else here.clock.monotonic() + preferred.seconds
            while outputs.end is None:
                seconds = None if until is None else until - here.clock.monotonic()
                if seconds is not None and seconds <= 0:
                    return
                lines = await reader.next(0 if outputs.is_asked else seconds)  # the end may be there already
                if not lines and (outputs.is_asked or reader.is_over):
                    return
                outputs.take(lines)


def _check(outputs: Outputs, job_id: str) -> None:
    """Refuse to tell the outputs of a run that has not succeeded.

    Raises:
        Problem: It failed (500), or was cancelled (409).
    """
    end = outputs.end or {}
    if end["status"] == "cancelled":
        raise Problem(409, "the run was cancelled", job_id=job_id, state="cancelled", reason=end.get("reason"))
    if end["status"] == "failed":
        error = outputs.error or {}
        node, text = error.get("node"), error.get("text") or f"the run failed: {end.get('reason')}"
        raise Problem(
            500,
            f"{node}: {text}" if node else text,
            job_id=job_id,
            state="failed",
            reason=end.get("reason"),
            node=node,
            message=text,
            traceback=error.get("traceback", ""),
        )
