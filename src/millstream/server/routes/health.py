"""Whether the server is well, and which version it is."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

import millstream
from millstream.errors import ClosedError, WorkflowServiceUnavailableError
from millstream.log import get_logger
from millstream.server.access.tokens import digest_of
from millstream.server.body import JsonRoute
from millstream.server.site import Here, Site

router = APIRouter(tags=["health"], route_class=JsonRoute)

_log = get_logger("millstream.server")

_PATIENCE_SECONDS: Final = 3.0
_NOBODY: Final = digest_of("")


class Health(BaseModel):
    """How the parts of the server stand."""

    status: Literal["ok", "degraded"]
    ledger: Literal["ok", "unavailable"]
    event_log: Literal["ok", "redis away"] = "ok"
    backend: Literal["ok", "closed"] = "ok"
    outbox: Literal["ok", "broker away"] = "ok"


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that this process answers."""
    return {"status": "ok"}


@router.get("/health_check")
async def health_check(here: Here, response: Response) -> Health:
    """Say how each part stands; `degraded` and 200: jobs are taken, and wait for something or lack live tokens."""
    found = await _look(here)
    if found.ledger != "ok" or found.backend != "ok":
        response.status_code = 503
    return found


@router.get("/api/v1/version")
async def version() -> dict[str, str]:
    """Return the version of the server."""
    return {"version": millstream.__version__, "main_version": millstream.__version__, "package": "millstream"}


async def _look(site: Site) -> Health:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await site.accounts.session(_NOBODY)
            is_broker_away = await site.app.is_broker_away()
            is_log_away = await site.app.is_event_log_away()
    except (WorkflowServiceUnavailableError, TimeoutError) as error:
        _log.warning("the ledger does not answer", reason=str(error))
        return Health(status="degraded", ledger="unavailable")
    except ClosedError:
        return Health(status="degraded", ledger="unavailable", backend="closed")
    return Health(
        status="degraded" if is_broker_away or is_log_away else "ok",
        ledger="ok",
        event_log="redis away" if is_log_away else "ok",
        outbox="broker away" if is_broker_away else "ok",
    )
