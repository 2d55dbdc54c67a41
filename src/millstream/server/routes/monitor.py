"""What this process has to do just now, for superusers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from millstream.server.access.principal import Superuser
from millstream.server.body import JsonRoute
from millstream.server.site import Here

router = APIRouter(prefix="/api/v1/monitor", tags=["monitor"], route_class=JsonRoute)


@router.get("/job_queue")
async def job_queue(here: Here, _: Superuser) -> dict[str, Any]:
    """Return the kind of event log, and how many jobs this process is running."""
    return {"backend": here.settings.effective_job_queue_type, "active_jobs": await here.app.active_jobs()}
