"""Whether the server is well, and which version it is."""

from __future__ import annotations

from fastapi import APIRouter

import millstream
from millstream.server.body import JsonRoute

router = APIRouter(tags=["health"], route_class=JsonRoute)


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "ok"}


@router.get("/api/v1/version")
async def version() -> dict[str, str]:
    """Return the version of the server."""
    return {"version": millstream.__version__, "main_version": millstream.__version__, "package": "millstream"}
