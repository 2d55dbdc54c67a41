"""Flows: documents that users keep, and the Python flows of the loaded app, which can only be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from fastapi import APIRouter, Body, File, Query, Request, Response, UploadFile
from msgspec.structs import replace

from millstream.authoring.flow import Flow
from millstream.ledger.accounts import NameTakenError
from millstream.ledger.flow_store import FlowNotFoundError, FlowSummary, StoredFlow, VersionConflictError
from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute, UploadRoute, strict_json
from millstream.server.etags import Conditional, Conditions, tag
from millstream.server.flows import exchange, keeping
from millstream.server.flows.python import python_flow, python_flow_as_data
from millstream.server.flows.shapes import (
    EXAMPLE_ID,
    Deleted,
    FlowChanges,
    NewFlow,
    ShownFlow,
    ShownPythonFlow,
    ShownSummary,
    flow_as_data,
)
from millstream.server.pages import Paged, next_page
from millstream.server.problem import Problem, forbidden
from millstream.server.site import Here, Site

router = APIRouter(prefix="/api/v1/flows", tags=["flows"], route_class=JsonRoute)
uploads = APIRouter(prefix="/api/v1/flows", tags=["flows"], route_class=UploadRoute)

Reads = Annotated[Principal, needs("flows:read")]
Writes = Annotated[Principal, needs("flows:write")]

_LISTED: Final = "flows"
_KEPT: Final = "kept"
_PYTHON: Final = "python"
_PAGE_BYTES: Final = 8 << 20
"""A page of whole flows ends behind the one that reaches this size."""


# ------------------------------------------------------------------------------------------------------- the list
@router.get("/", response_model=list[ShownFlow | ShownSummary | ShownPythonFlow])
async def list_flows(
    request: Request,
    here: Here,
    who: Reads,
    page: Paged,
    *,
    project_id: Annotated[UUID | None, Query(description="Only the flows in this project.")] = None,
    header_flows: Annotated[bool, Query(description="Whether to leave the documents out.")] = False,
) -> Response:
    """List flows: first those that are kept, then the Python flows of the loaded app."""
    part, after = page.after(_LISTED, parts=2) or (_KEPT, "")
    told: list[bytes] = []
    place: list[str] = []
    headers: dict[str, str] = {}
    size = 0
    async for flow in _listing(here, who, part, after, project_id, page.limit + 1):
        if len(told) == page.limit or size >= _PAGE_BYTES:
            headers = next_page(request, _LISTED, place)
            break
        place = [_PYTHON, flow.name] if isinstance(flow, Flow) else [_KEPT, flow.id]
        if isinstance(flow, Flow):
            shown = python_flow_as_data(flow)
        elif (found := flow if header_flows else await _still_there(here, flow)) is not None:
            shown = flow_as_data(found)
        else:
            continue
        told.append(msgspec.json.encode(shown))
        size += len(told[-1])
    return Response(b"[%b]" % b",".join(told), headers=headers, media_type="application/json")


async def _still_there(here: Site, flow: FlowSummary) -> StoredFlow | None:
    """Return a flow that was listed with its document; `None` where it was deleted since."""
    try:
        return await here.flows.get(flow.id, flow.owner)
    except FlowNotFoundError:
        return None


async def _listing(
    here: Site, who: Principal, part: str, after: str, project_id: UUID | None, limit: int
) -> AsyncIterator[FlowSummary | Flow]:
    project = None if project_id is None else str(project_id)
    if part == _KEPT:
        for summary in await here.flows.flows(who.owner, project, after or None, limit):
            yield summary
    if project is None:
        for flow in here.app.registry.flows():
            if part == _KEPT or flow.name > after:
                yield flow


# ------------------------------------------------------------------------------------------------- files out and in
@router.post("/download/", response_model=NewFlow, responses={200: {"content": {"application/zip": {}}}})
async def download_flows(
    here: Here,
    who: Reads,
    flow_ids: Annotated[list[UUID], Body(min_length=1, max_length=exchange.MOST_FLOWS, examples=[[EXAMPLE_ID]])],
) -> Response:
    """Download flows as files: one as JSON, several as a zip archive. Values of secret ports are left out."""
    files = await as_files(here, who, [str(flow_id) for flow_id in dict.fromkeys(flow_ids)])
    if len(files) == 1:
        return as_download(files[0][1], f"{exchange.file_stem(files[0][0])}.json")
    return as_download(await anyio.to_thread.run_sync(exchange.packed, files), "flows.zip")


async def as_files(here: Site, who: Principal, flow_ids: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return the names of flows, and the contents of their files.

    Raises:
        FlowNotFoundError: The user has no such flow.
        Problem: They are too large to be uploaded again at once (413).
    """
    files: list[tuple[str, bytes]] = []
    room = exchange.MOST_BYTES
    for flow_id in flow_ids:
        flow = await here.flows.get(flow_id, who.owner)
        files.append((flow.name, exchange.laid_out(exchange.as_file(flow, here.catalogue))))
        room -= len(files[-1][1])
        if room < 0:
            raise Problem(413, f"these flows have more than {exchange.MOST_BYTES} bytes; download fewer at once")
    return files


@uploads.post("/upload/", status_code=201, response_model=list[ShownFlow])
async def upload_flows(
    here: Here,
    who: Writes,
    file: Annotated[list[UploadFile], File(description="JSON files, or zip archives of such files.")],
    project_id: Annotated[UUID | None, Query(description="The project that the flows are to lie in.")] = None,
) -> Response:
    """Keep the flows that are in files: all of them, or none where something is wrong with one.

    A file has one flow, or `{"flows": […]}`. A flow keeps its id where that is free.
    """
    return await keep_in(here, who, await flows_of(file), project_id)


async def flows_of(files: Sequence[UploadFile]) -> list[NewFlow]:
    """Return the flows in files that were sent; see `exchange.flows_in`."""
    read = [(file.filename or "file", await file.read()) for file in files]
    return await anyio.to_thread.run_sync(exchange.flows_in, read, strict_json)  # nobody should wait for 32 MiB


async def keep_in(here: Site, who: Principal, given: Sequence[NewFlow], project_id: UUID | None) -> Response:
    """Keep flows that came in files in a project, and return the answer that shows them; see `keeping.keep_all`."""
    now = here.clock.now()
    made = [keeping.made(flow.model_copy(update={"project_id": project_id}), who.user.id, now) for flow in given]
    kept = await keeping.keep_all(here.flows, here.catalogue, made)
    return Response(msgspec.json.encode([flow_as_data(flow) for flow in kept]), 201, media_type="application/json")


def as_download(content: bytes, name: str) -> Response:
    """Return the answer that a browser saves as a file."""
    kind = "application/zip" if name.endswith(".zip") else "application/json"
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(content, headers=headers, media_type=kind)


# --------------------------------------------------------------------------------------------------------- one flow
@router.post("/", status_code=201, response_model=ShownFlow)
async def create_flow(here: Here, who: Writes, given: NewFlow) -> Response:
    """Keep a new flow."""
    return await _create(here, who, given)


@router.get("/{flow_id}", response_model=ShownFlow | ShownPythonFlow)
async def show_flow(here: Here, who: Reads, flow_id: UUID, conditions: Conditional) -> Response:
    """Show a flow with its document; a Python flow with the schema of its inputs."""
    written = python_flow(here.app.registry, str(flow_id))
    if written is not None:
        return Response(msgspec.json.encode(python_flow_as_data(written)), media_type="application/json")
    flow = await here.flows.get(str(flow_id), who.owner)
    current = tag(flow.version, flow.created_at)
    if conditions.is_known(current):
        return Response(status_code=304, headers={"ETag": current})
    return _shown(flow)


@router.patch("/{flow_id}", response_model=ShownFlow)
async def change_flow(
    here: Here, who: Writes, flow_id: UUID, changes: FlowChanges, conditions: Conditional
) -> Response:
    """Change what is named of a flow."""
    _refuse_python(here, flow_id)
    while True:
        flow = await here.flows.get(str(flow_id), who.owner)
        conditions.require(tag(flow.version, flow.created_at))
        changed = _changed(flow, changes)
        if "data" in changes.model_fields_set:
            await keeping.check(changed, here.catalogue, here.flows)
        try:
            return _shown(await here.flows.replace(changed, flow.version))
        except VersionConflictError:  # another change came in between: this one is made to what there is now
            continue


@router.put("/{flow_id}", response_model=ShownFlow, responses={201: {"model": ShownFlow}})
async def put_flow(here: Here, who: Writes, flow_id: UUID, given: NewFlow, conditions: Conditional) -> Response:
    """Put a flow in place of the one with this id, or keep a new one under it."""
    _refuse_python(here, flow_id)
    if given.id not in (None, flow_id):
        raise Problem(422, f"the body has the id {given.id}, the path {flow_id}; leave the body's out")
    while True:
        try:
            flow = await here.flows.get(str(flow_id), who.owner)
        except FlowNotFoundError:
            if (new := await _put_new(here, who, given.model_copy(update={"id": flow_id}), conditions)) is not None:
                return new
            flow = await here.flows.get(str(flow_id), who.owner)  # made meanwhile, or nobody's business
        conditions.require(tag(flow.version, flow.created_at))
        put = keeping.made(given, flow.owner, here.clock.now())
        put = replace(put, id=flow.id, webhook=flow.webhook)
        await keeping.check(put, here.catalogue, here.flows)
        try:
            return _shown(await here.flows.replace(put, flow.version))
        except VersionConflictError:  # another change came in between: this one replaces that, or is refused
            continue


async def _put_new(here: Site, who: Principal, given: NewFlow, conditions: Conditions) -> Response | None:
    """Keep a new flow under an id; `None` where the id is taken."""
    conditions.require(None)
    try:
        return await _create(here, who, given)
    except NameTakenError as taken:
        if taken.field == "id":
            return None
        raise


@router.delete("/{flow_id}", response_model=Deleted)
async def delete_flow(here: Here, who: Writes, flow_id: UUID, conditions: Conditional) -> Deleted:
    """Delete a flow; its jobs stay."""
    _refuse_python(here, flow_id)
    version = None
    if conditions != Conditions():
        flow = await here.flows.get(str(flow_id), who.owner)
        conditions.require(tag(flow.version, flow.created_at))
        version = flow.version
    await here.flows.remove(str(flow_id), who.owner, version)
    return Deleted()


async def _create(here: Site, who: Principal, given: NewFlow) -> Response:
    flow = keeping.made(given, who.user.id, here.clock.now())
    await keeping.check(flow, here.catalogue, here.flows)
    kept = await keeping.add_flow(here.flows, flow)
    return _shown(kept, 201, {"Location": f"/api/v1/flows/{kept.id}"})


def _changed(flow: StoredFlow, changes: FlowChanges) -> StoredFlow:
    named = changes.model_dump(include=changes.model_fields_set, mode="json")
    if "project_id" in named:
        named["project"] = named.pop("project_id")
    return replace(flow, **named)


def _refuse_python(here: Site, flow_id: UUID) -> None:
    written = python_flow(here.app.registry, str(flow_id))
    if written is not None:
        raise forbidden(f"{written.name} is written in Python: change it there, and load the app again")


def _shown(flow: StoredFlow, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    told = {"ETag": tag(flow.version, flow.created_at), **(headers or {})}
    return Response(msgspec.json.encode(flow_as_data(flow)), status, told, "application/json")
