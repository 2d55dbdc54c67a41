"""The catalogue: everything that a node of a flow document can be."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute
from millstream.server.etags import Conditional
from millstream.server.flows.shown_catalogue import ShownComponent, shown
from millstream.server.site import Here

router = APIRouter(prefix="/api/v1", tags=["catalogue"], route_class=JsonRoute)


@router.get("/all", response_model=dict[str, dict[str, ShownComponent]])
async def all_components(here: Here, _: Annotated[Principal, needs("flows:read")], conditions: Conditional) -> Response:
    """List every component by group and name: its ports with types, schemas and defaults, and how it is shown."""
    page = shown(here.catalogue)
    headers = {"ETag": page.etag, "Cache-Control": "private, no-cache"}
    if conditions.is_known(page.etag):
        return Response(status_code=304, headers=headers)
    return Response(page.content, headers=headers, media_type="application/json")
