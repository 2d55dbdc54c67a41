"""What this process has to do just now, for superusers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from millstream.server.access.principal import Superuser
from millstream.server.body import JsonRoute
from millstream.server.problem import Problem
from millstream.server.site import Here

router = APIRouter(prefix="/api/v1/monitor", tags=["monitor"], route_class=JsonRoute)

Told = Annotated[Literal["process", "cluster"], Query(description="Of what is told.")]


@router.get("/job_queue")
async def job_queue(here: Here, _: Superuser, scope: Told = "process") -> dict[str, Any]:
    """Return the kind of event log, and how many jobs this process is running."""
    if scope == "cluster":
        raise Problem(501, "this version of the server tells of its own process only, not of a cluster")
    return {"backend": here.settings.effective_job_queue_type, "active_jobs": await here.app.active_jobs()}
