"""The processes that share the ledger, and what waits for them; for superusers."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Response

from millstream.desk.told import iso
from millstream.ledger.presence import Presence
from millstream.server import told
from millstream.server.access.principal import Principal, needs
from millstream.server.site import Here
from millstream.server.strict import StrictRoute

router = APIRouter(prefix="/api/v1/processes", tags=["processes"], route_class=StrictRoute)


@router.get("")
async def list_processes(here: Here, _: Annotated[Principal, needs("jobs:read", superuser=True)]) -> Response:
    """List server and worker processes, with their heartbeats, and the queues, with what may be claimed in each.

    A depth counts 1000 segments of each flow at most.
    """
    depths = Counter(queued.queue or here.settings.default_queue for queued in await here.app.queued())
    content = {
        "processes": [_shown(process) for process in await here.app.processes()],
        "queues": [{"queue": queue, "depth": depth} for queue, depth in sorted(depths.items())],
    }
    return told.answer(content)


def _shown(process: Presence) -> dict[str, Any]:
    return {
        "id": process.id,
        "host": process.host,
        "pid": process.pid,
        "started_at": iso(process.started_at),
        "executes": process.executes,
        "lease_seconds": round(process.lease_seconds, 3),
        "segments": process.segments,
    }
