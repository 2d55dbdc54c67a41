"""Projects: folders of flows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Final
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
from fastapi import APIRouter, File, Request, Response, UploadFile
from msgspec.structs import replace

from millstream.clock import new_id
from millstream.ledger.accounts import NameTakenError
from millstream.ledger.flow_store import Project, ProjectNotFoundError, VersionConflictError
from millstream.server.body import JsonRoute, UploadRoute
from millstream.server.etags import Conditional, Conditions, tag
from millstream.server.flows import exchange, keeping
from millstream.server.flows.shapes import NewProject, ProjectChanges, ShownFlow, ShownProject, project_as_data
from millstream.server.pages import Paged, next_page
from millstream.server.problem import Problem
from millstream.server.routes.flows import Reads, Writes, as_download, as_files, flows_of, keep_in
from millstream.server.site import Here, Site

router = APIRouter(prefix="/api/v1/projects", tags=["projects"], route_class=JsonRoute)
uploads = APIRouter(prefix="/api/v1/projects", tags=["projects"], route_class=UploadRoute)

_LISTED: Final = "projects"


@router.get("/", response_model=list[ShownProject])
async def list_projects(request: Request, here: Here, who: Reads, page: Paged) -> Response:
    """List projects."""
    place = page.after(_LISTED)
    found = await here.flows.projects(who.owner, place[0] if place else None, page.limit + 1)
    shown = found[: page.limit]
    headers = next_page(request, _LISTED, [shown[-1].id]) if len(found) > len(shown) else {}
    content = msgspec.json.encode([project_as_data(project) for project in shown])
    return Response(content, headers=headers, media_type="application/json")


@router.post("/", status_code=201, response_model=ShownProject)
async def create_project(here: Here, who: Writes, given: NewProject) -> Response:
    """Make a project."""
    made = await keeping.add_project(here.flows, _made(here.clock.now(), who.user.id, given))
    return _shown(made, 201, {"Location": f"/api/v1/projects/{made.id}"})


class _Archive(Response):
    """What a browser saves as an archive; named so in the API's description."""

    media_type = "application/zip"


@router.get("/download/{project_id}", response_class=_Archive)
async def download_project(here: Here, who: Reads, project_id: UUID) -> Response:
    """Download a project's flows as a zip archive. Values of secret ports are left out."""
    project = await here.flows.project(str(project_id), who.owner)
    flows = await here.flows.flows(who.owner, project.id, limit=exchange.MOST_FLOWS + 1)
    if len(flows) > exchange.MOST_FLOWS:
        raise Problem(413, f"the project has more than {exchange.MOST_FLOWS} flows; download them by their ids")
    files = await as_files(here, who, [flow.id for flow in flows])
    content = await anyio.to_thread.run_sync(exchange.packed, files)
    return as_download(content, f"{exchange.file_stem(project.name)}.zip")


@uploads.post("/upload/", status_code=201, response_model=list[ShownFlow])
async def upload_project(
    here: Here, who: Writes, file: Annotated[UploadFile, File(description="A zip archive of flows, or a JSON file.")]
) -> Response:
    """Make a project of the flows that are in a file: it has the file's name."""
    given = await flows_of([file])
    name = PurePath(file.filename or "").stem[:255] or "Project"
    project = await keeping.add_project(here.flows, _made(here.clock.now(), who.user.id, NewProject(name=name)))
    try:
        return await keep_in(here, who, given, UUID(project.id))
    except BaseException:
        with anyio.CancelScope(shield=True):
            await here.flows.remove_project(project.id, who.user.id)
        raise


@router.get("/{project_id}", response_model=ShownProject)
async def show_project(here: Here, who: Reads, project_id: UUID, conditions: Conditional) -> Response:
    """Show a project; its flows are listed by `/api/v1/flows/?project_id=…`."""
    project = await here.flows.project(str(project_id), who.owner)
    current = tag(project.version, project.created_at)
    if conditions.is_known(current):
        return Response(status_code=304, headers={"ETag": current})
    return _shown(project)


@router.patch("/{project_id}", response_model=ShownProject)
async def change_project(
    here: Here, who: Writes, project_id: UUID, changes: ProjectChanges, conditions: Conditional
) -> Response:
    """Change what is named of a project."""
    named = changes.model_dump(include=changes.model_fields_set)
    while True:
        project = await here.flows.project(str(project_id), who.owner)
        conditions.require(tag(project.version, project.created_at))
        try:
            return _shown(await here.flows.replace_project(replace(project, **named), project.version))
        except VersionConflictError:  # another change came in between: this one is made to what there is now
            continue


@router.put("/{project_id}", response_model=ShownProject, responses={201: {"model": ShownProject}})
async def put_project(
    here: Here, who: Writes, project_id: UUID, given: NewProject, conditions: Conditional
) -> Response:
    """Put a project in place of the one with this id, or make a new one under it."""
    put = replace(_made(here.clock.now(), who.user.id, given), id=str(project_id))
    while True:
        try:
            project = await here.flows.project(put.id, who.owner)
        except ProjectNotFoundError:
            if (new := await _put_new(here, put, conditions)) is not None:
                return new
            project = await here.flows.project(put.id, who.owner)  # made meanwhile, or nobody's business
        conditions.require(tag(project.version, project.created_at))
        try:
            return _shown(await here.flows.replace_project(replace(put, owner=project.owner), project.version))
        except VersionConflictError:  # another change came in between: this one replaces that, or is refused
            continue


async def _put_new(here: Site, put: Project, conditions: Conditions) -> Response | None:
    """Make a new project under an id; `None` where the id is taken."""
    conditions.require(None)
    try:
        made = await keeping.add_project(here.flows, put)
    except NameTakenError as taken:
        if taken.field == "id":
            return None
        raise
    return _shown(made, 201, {"Location": f"/api/v1/projects/{made.id}"})


@router.delete("/{project_id}", status_code=204)
async def delete_project(here: Here, who: Writes, project_id: UUID, conditions: Conditional) -> Response:
    """Delete a project; its flows stay, and lie in none then."""
    version = None
    if conditions != Conditions():
        project = await here.flows.project(str(project_id), who.owner)
        conditions.require(tag(project.version, project.created_at))
        version = project.version
    await here.flows.remove_project(str(project_id), who.owner, version)
    return Response(status_code=204)


def _made(now: float, owner: str, given: NewProject) -> Project:
    return Project(
        id=new_id(), owner=owner, name=given.name, description=given.description, created_at=now, updated_at=now
    )


def _shown(project: Project, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    told = {"ETag": tag(project.version, project.created_at), **(headers or {})}
    return Response(msgspec.json.encode(project_as_data(project)), status, told, "application/json")
