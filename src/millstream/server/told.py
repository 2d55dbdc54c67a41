"""What the server says of jobs: as `millstream.desk.told` does, with tracebacks for nobody but a job's owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import Response

from millstream.desk import told
from millstream.desk.story import Story
from millstream.model.event import Event
from millstream.model.job import JobRecord
from millstream.server.access.principal import Principal

_ERROR = frozenset({"type", "message", "node", "traceback"})


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def job(record: JobRecord, caller: Principal, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a job for a list."""
    return _for(caller, record, told.job(record, names))


def whole(record: JobRecord, story: Story, caller: Principal, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a job, and how it went node by node."""
    return _for(caller, record, told.whole(record, story, names))


def event(happened: Event, record: JobRecord, caller: Principal) -> dict[str, Any]:
    """Return an event of a job."""
    return _for(caller, record, told.event(happened))


def _for(caller: Principal, record: JobRecord, content: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a job; one without an owner belongs to those who may see it."""
    if record.owner in (None, caller.user.id):
        return content
    return {name: _without_traceback(value) for name, value in content.items()}


def _without_traceback(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == _ERROR:
            return value | {"traceback": None}
        return {name: _without_traceback(item) for name, item in value.items()}
    return [_without_traceback(item) for item in value] if isinstance(value, list) else value
