"""The reference of the API: the OpenAPI document, and a page made of it that needs no script."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse

from millstream.server.body import JsonRoute

router = APIRouter(include_in_schema=False, route_class=JsonRoute)

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>millstream: API</title>
<h1>millstream {version}</h1>
<p>The whole document: <a href="/openapi.json">/openapi.json</a>.</p>
<table>
<tr><th>method</th><th>path</th><th>what it does</th></tr>
{rows}
</table>
"""


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Return the list of all routes as a page."""
    document: dict[str, Any] = request.app.openapi()
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{escape(_told(operation))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return HTMLResponse(_PAGE.format(version=escape(document["info"]["version"]), rows="\n".join(rows)))


def _told(operation: dict[str, Any]) -> str:
    told: str = operation.get("description") or operation.get("summary", "")
    return told.partition("\n")[0]
