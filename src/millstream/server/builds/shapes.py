"""The shapes of what a build tells: the one home of their fields. Pure; all of it is plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from millstream.model.component import Component
from millstream.model.event import Event
from millstream.model.failure import Failure
from millstream.model.graph import pick
from millstream.model.job import JobRecord
from millstream.model.names import DOCUMENTS, claim_key
from millstream.model.value import Reference, decode_shown, encode
from millstream.server.builds.vertices import Closed

_PREVIEW = 200
_MESSAGE_FIELDS = {
    "text": "text",
    "sender": "sender",
    "sender_name": "sender_name",
    "session_id": "session_id",
    "files": "files",
}
"""What of a message that a task returned is told, and under which name."""


class Speaker(StrEnum):
    """Who says what a task returns."""

    USER = "User"
    MACHINE = "Machine"

    @property
    def display_name(self) -> str:
        """The name that is shown with the message."""
        return "User" if self is Speaker.USER else "AI"


@dataclass(frozen=True, slots=True)
class Build:
    """What there is to know of a job beside its events.

    Attributes:
        job_id: The job.
        flow: Name of its flow or task.
        session: Which conversation its messages belong to.
    """

    job_id: str
    flow: str
    session: str

    @property
    def is_document(self) -> bool:
        """Whether the flow is a document."""
        return claim_key(self.flow) == DOCUMENTS

    @property
    def flow_id(self) -> str:
        """The id of a stored flow; of a flow in Python its name."""
        return self.flow.rpartition(":")[2] if self.is_document else self.flow

    @classmethod
    def of(cls, record: JobRecord) -> Build:
        """Return what a job's record tells."""
        session = record.inputs.get("session")
        return cls(record.id, record.flow, session if isinstance(session, str) and session else record.id)


def instant(at: float) -> str:
    """Return a time as ISO 8601 in UTC.

    >>> instant(0.25)
    '1970-01-01T00:00:00.250000+00:00'
    """
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def duration(seconds: float) -> float:
    """Return a length of time as it is told: in seconds, to the microsecond, never negative."""
    return round(max(0.0, seconds), 6)


def plain(value: Any) -> Any:
    """Return a value as JSON can say it; the same whether it comes from a task or from the ledger."""
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, Reference):
        return {"$type": "reference", "digest": value.digest, "size": value.size}
    try:
        return decode_shown(encode(value))
    except Exception:  # noqa: BLE001  a job of durability off may return what cannot be written down
        return {"$type": type(value).__qualname__}


def preview(value: Any) -> str:
    """Return the beginning of a value as text."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}…"


def message_id(job_id: str, vertex: str) -> str:
    """Return the id of the message that a vertex gives: the same whenever its job is read."""
    return str(uuid5(NAMESPACE_OID, f"{job_id}.{vertex}"))


def message(build: Build, vertex: str, speaker: Speaker, value: Any, at: float) -> dict[str, Any]:
    """Return a message: what a chat input or output returned, a text or a mapping with `text` and who says it."""
    said = plain(value)
    given = {as_: said[key] for key, as_ in _MESSAGE_FIELDS.items() if said.get(key)} if isinstance(said, dict) else {}
    text = given.pop("text", "") if isinstance(said, dict) else said
    return {
        "id": message_id(build.job_id, vertex),
        "flow_id": build.flow_id,
        "timestamp": instant(at),
        "sender": speaker.value,
        "sender_name": speaker.display_name,
        "session_id": build.session,
        "text": text if isinstance(text, str) else "" if text is None else str(text),
        "files": [],
        "error": False,
        "edit": False,
        "category": "message",
        "properties": {"source": {"id": vertex}},
        "content_blocks": [],
        **given,
    }


def speaker(component: Component) -> Speaker | None:
    """Return who says what a component gives; `None` where it is no side of a conversation."""
    if component.output_type == "chat":
        return Speaker.MACHINE
    return Speaker.USER if component.input_type == "chat" else None


def failure(reason: str | None) -> Failure:
    """Return the failure of a build of which no vertex failed."""
    return Failure(type="millstream.errors:JobFailedError", message=f"the build failed: {reason or 'internal'}")


def failure_in(data: dict[str, Any]) -> Failure:
    """Return the failure that the event of a node's end tells; a stand-in where it cannot be read here."""
    found = data.get("error")
    return found if isinstance(found, Failure) else failure("its failure cannot be read here")


def error(build: Build, vertex: str | None, why: Failure, at: float) -> dict[str, Any]:
    """Return what failed a vertex, or the build; `text` is for people."""
    place = why.node or vertex
    return {
        "id": message_id(build.job_id, f"{vertex or ''}!"),
        "flow_id": build.flow_id,
        "timestamp": instant(at),
        "sender": Speaker.MACHINE.value,
        "sender_name": vertex or "Build",
        "session_id": build.session,
        "text": f"{why.short_type}: {why.message}" if vertex else why.message,
        "files": [],
        "error": True,
        "edit": False,
        "category": "error",
        "properties": {"source": {"id": vertex}},
        "content_blocks": [],
        "node": place,
        "type": why.short_type,
        "traceback": why.traceback,
    }


def built(
    closed: Closed, data: dict[str, Any], component: Component | None, *, message: dict[str, Any] | None, at: float
) -> dict[str, Any]:
    """Return what became of a vertex, and what may run next.

    Args:
        closed: Its end.
        data: What the event of its node's end says: `value`, `error`, or the `message` of one that skipped itself.
        component: What stands there, where that is known.
        message: What it said, where it is one side of a conversation.
        at: When it ended.
    """
    if closed.is_valid:
        results = {"message": message} if message is not None else _ports(data, component)
        outputs = {port: {"message": value, "type": _kind(value)} for port, value in results.items()}
        told = data.get("message") or preview(
            next(iter(results.values()), None) if message is None else message["text"]
        )
    else:
        told = failure_in(data).message
        results, outputs = {}, {"error": {"message": told, "type": "error"}}
    return {
        "id": closed.vertex,
        "next_vertices_ids": closed.next,
        "inactivated_vertices": closed.inactivated,
        "valid": closed.is_valid,
        "params": told,
        "data": {
            "results": results,
            "outputs": outputs,
            "logs": {port: [] for port in outputs},
            "message": told if message is None else message,
            "artifacts": {port: {"repr": preview(value), "type": _kind(value)} for port, value in results.items()},
            "timedelta": duration(closed.seconds),
            "duration": _for_people(closed.seconds),
        },
        "timestamp": instant(at),
    }


def _ports(data: dict[str, Any], component: Component | None) -> dict[str, Any]:
    """Return what a vertex gave, by the names of its outputs; of what is no component it is one, `result`."""
    if "value" not in data:
        return {}
    value = data["value"]
    if component is None or not component.outputs or isinstance(value, Reference):
        return {"result": plain(value)}
    if component.kind == "router":
        way, leaves = value
        return {str(way): plain(leaves)}
    found = {}
    for port in component.outputs:
        try:
            found[port.name] = plain(pick(value, port.path))
        except LookupError:
            continue  # what the task returned has nothing there
    return found


def _kind(value: Any) -> str:
    if isinstance(value, dict) and "text" in value and "sender" in value:
        return "message"
    return _KINDS.get(type(value), "object")


def token(message: str, data: Any) -> dict[str, Any]:
    """Return a piece of a message; a task emits text, or a mapping with `chunk` and perhaps the message's `id`."""
    if not isinstance(data, dict):
        return {"chunk": data if isinstance(data, str) else str(plain(data)), "id": message}
    return {"id": message, **plain(data), "chunk": str(data.get("chunk", ""))}


def log(vertex: str, event: Event) -> dict[str, Any]:
    """Return a line of a vertex's log: what its task logged, its progress, its state, or an event of its own."""
    data = plain(event.data)
    if event.type == "log":
        return {"component_id": vertex, "name": "log", "type": data["level"], "message": data["message"]}
    return {"component_id": vertex, "name": event.type, "type": "info", "message": data}


def question(vertex: str, path: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return what people are asked: an approval, or what became of an attempt that must not be repeated unknowingly."""
    why = data.get("error")
    asked = plain(data.get("question")) if data["reason"] == "approval" else None
    return {
        "id": vertex,
        "node": path,
        "reason": data["reason"],
        "question": asked,
        "attempt": data.get("attempt"),
        "error": why.message if isinstance(why, Failure) else None,
    }


_KINDS = {str: "text", list: "array", bool: "object", int: "number", float: "number"}


def _for_people(seconds: float) -> str:
    """Return a length of time as text.

    >>> _for_people(0.0123), _for_people(75.0)
    ('12 ms', '75.0 seconds')
    """
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} seconds"
