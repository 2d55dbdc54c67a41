"""What the API will have and this version has not: each answers 501, and says so."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Request

from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute
from millstream.server.problem import Problem
from millstream.server.site import Here

router = APIRouter(include_in_schema=False, route_class=JsonRoute)

_PAGES: Final = "pages"
_READ: Final = ["GET"]
_LATER: Final[dict[str, tuple[str, list[str]]]] = {
    "/api/v1/schedules": ("schedules", ["GET", "POST"]),
    "/api/v1/schedules/{schedule_id}": ("schedules", ["GET", "PATCH", "DELETE"]),
    "/api/v1/schedules/{schedule_id}/trigger": ("schedules", ["POST"]),
    "/api/v1/schedules/{schedule_id}/pause": ("schedules", ["POST"]),
    "/api/v1/schedules/{schedule_id}/backfill": ("schedules", ["POST"]),
    "/metrics": ("metrics", _READ),
    "/": (_PAGES, _READ),
}


async def not_yet(here: Here, request: Request, _: Annotated[Principal, needs("account:read")]) -> None:
    """Say that this version does not have it."""
    what = _LATER[request.scope["route"].path][0]
    if what == _PAGES and here.settings.backend_only:
        raise HTTPException(404)
    raise Problem(501, f"this version of the server has no {what} yet")


for _path, (_, _methods) in _LATER.items():
    router.add_api_route(_path, not_yet, methods=_methods)
