"""Retries with other arguments: the task that then runs in the first one's place goes on with its count."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from millstream.engine.request import Request

_BEFORE = "millstream-retries-before"
"""Name of the header in which a task is told of the retries before it."""


def headers_after(request: Request) -> dict[str, Any]:
    """Return the headers of the task that runs in an attempt's place."""
    return {**(request.headers or {}), _BEFORE: request.retries + 1}


def counted(request: Request) -> Request:
    """Return an attempt as its task sees it: with the retries before it, and without the header that tells of them."""
    headers = dict(request.headers or {})
    before = headers.pop(_BEFORE, None)
    if before is None:
        return request
    most = request.max_retries + before
    return replace(request, retries=request.retries + before, max_retries=most, headers=headers or None)
