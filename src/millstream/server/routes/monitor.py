"""What this process has to do just now, for superusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from millstream.server.access.principal import Superuser
from millstream.server.body import JsonRoute
from millstream.server.site import Here

router = APIRouter(prefix="/api/v1/monitor", tags=["monitor"], route_class=JsonRoute)

Told = Annotated[Literal["process", "cluster"], Query(description="Of what is told.")]


_SAME = frozenset({"backend", "id", "host", "pid"})
"""What is no number to be added up."""


@router.get("/job_queue")
async def job_queue(here: Here, _: Superuser, scope: Told = "process") -> dict[str, Any]:
    """Return the kind of event log, how many jobs this process is running, and with Redis what else it does.

    With `scope=cluster`: the sums over all processes of the ledger, and each of them under `processes`.
    """
    if scope == "process":
        return await here.app.job_queue()
    processes = await here.app.job_queues()
    return {"backend": here.settings.effective_job_queue_type, **_sums(processes), "processes": processes}


def _sums(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return numbers added up by their names; what is true of all of them stays true."""
    sums: dict[str, Any] = {}
    for name in told[0] if told else ():
        found = [one[name] for one in told if name in one]
        if isinstance(found[0], dict):
            sums[name] = _sums(found)
        elif isinstance(found[0], bool):
            sums[name] = all(found)
        elif name not in _SAME:
            sums[name] = sum(found)
    return sums
