"""What there is to say of jobs, for programs. Times are ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from millstream.desk.story import Story
from millstream.errors import NotSerializableError
from millstream.model.event import Event
from millstream.model.failure import Failure
from millstream.model.job import JobRecord
from millstream.model.value import Reference, decode_shown, encode


def iso(seconds: float | None) -> str | None:
    """Return a time as ISO 8601.

    >>> iso(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def error(failure: Failure | None) -> dict[str, Any] | None:
    """Return what failed something."""
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "node": failure.node, "traceback": failure.traceback}


def job(record: JobRecord, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a job, with what people call its flow (see `JobDesk.flow_names`)."""
    told = {
        "job_id": record.id,
        "flow": record.flow,
        "flow_name": names.get(record.flow),
        "version": record.version,
        "state": record.state,
        "reason": record.reason,
        "cancel_requested": record.cancel_requested,
        "priority": record.priority,
        "durability": record.durability,
        "parent": record.parent,
        "owner": record.owner,
        "created_at": iso(record.created_at),
        "starts_at": iso(record.starts_at),
        "expires_at": iso(record.expires_at),
        "started_at": iso(record.started_at),
        "ended_at": iso(record.ended_at),
        "inputs": value(record.inputs),
        "result": value(record.result),
        "error": error(record.error),
    }
    if record.result is not None and json_of(record.result) is None:
        told["result_is_repr"] = True
    return told


def whole(record: JobRecord, story: Story, names: Mapping[str, str]) -> dict[str, Any]:
    """Return a job, and how it went node by node."""
    return job(record, names) | {
        "repeats": story.repeats,
        "attempts": [
            {"attempt": begun.attempt, "process": begun.process, "at": iso(begun.at)} for begun in story.attempts
        ],
        "nodes_known": story.known,
        "nodes": [
            {
                "node": node.path,
                "state": node.state,
                "attempt": node.attempt,
                "at": iso(node.at),
                "reason": node.reason,
                "until": iso(node.until),
                "question": value(node.question),
                "error": error(node.error),
            }
            for node in story.nodes.values()
        ],
    }


def event(happened: Event) -> dict[str, Any]:
    """Return an event: the same whether it was just put into the event log, or comes from the ledger.

    >>> msgspec.json.encode(event(Event(1, 0, "noted", 0.0, "a", {"value": b"abc"}))["data"])
    b'{"value":{"$type":"bytes","size":3}}'
    """
    return {
        "cursor": str(happened.cursor),
        "type": happened.type,
        "at": iso(happened.at),
        "node": happened.node,
        "data": value(_shown(happened.data)),
    }


def _shown(data: Any) -> Any:
    """Return what is shown of an event's data, which has what tasks returned in it while a job runs."""
    if isinstance(data, dict):
        return {name: _plain(item) for name, item in data.items()}
    return _plain(data)


def _plain(item: Any) -> Any:
    if item is None or isinstance(item, str | int | Reference):
        return item
    try:
        return decode_shown(encode(item))
    except NotSerializableError:  # of a job of durability off: no ledger shows another form
        return item


def value(given: Any) -> Any:
    """Return a value as it can be written as JSON; what inside it has no JSON form by its `repr`."""
    if isinstance(given, Failure):
        return error(given)
    if isinstance(given, dict):
        return {str(key): value(item) for key, item in given.items()}
    encoded = json_of(given)
    return repr(given) if encoded is None else msgspec.Raw(encoded.encode())


def json_of(given: Any) -> str | None:
    """Return a value as JSON on one line; `None` where it has no JSON form.

    >>> json_of({"sizes": (1, 2)})
    '{"sizes":[1,2]}'
    """
    try:
        return msgspec.json.encode(given).decode()
    except Exception:  # noqa: BLE001  a value may hold objects whose own code raises anything
        return None
