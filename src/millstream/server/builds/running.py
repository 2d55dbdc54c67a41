"""Runs: a flow is run for the sake of its outputs, which are told in one answer, or at the end of a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import Request

from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.registry import Definition
from millstream.server.builds.feed import Reader
from millstream.server.builds.lines import SSE, Line, encode, framed
from millstream.server.builds.streams import LineStream, until_gone
from millstream.server.builds.translate import Told

ANY: Final = "any"
DEBUG: Final = "debug"

_VERTEX: Final = b'{"event":"end_vertex"'
_ERROR: Final = b'{"event":"error"'
_ASKS: Final = b'{"event":"human_input_required"'


class Outputs:
    """Collects from a build's lines what a run gives.

    Args:
        work: What is run.
        output_type: What the outputs show that are told: `chat`, `text`, …; `any` for all of them, `debug` for every
            vertex. By default those of a chat, and where there are none all of them.

    Attributes:
        error: What failed, as the line `error` told it.
        end: What the last line told; `None` before it.
        is_asked: Whether people are asked something, so that nobody knows when it will end.
    """

    def __init__(self, work: Definition, output_type: str | None) -> None:
        """Have collected nothing."""
        self._wanted = _wanted(work, output_type)
        self._found: dict[str, dict[str, Any]] = {}
        self.error: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.is_asked = False

    def take(self, lines: Sequence[Line]) -> None:
        """Take further lines; not by orjson, which makes floats of large integers."""
        for line in lines:
            if line.body.startswith(_VERTEX):
                built = json.loads(line.body)["data"]["build_data"]
                if self._wanted is None or built["id"] in self._wanted:
                    self._found[built["id"]] = built
            elif line.body.startswith(_ERROR):
                self.error = json.loads(line.body)["data"]
            elif line.body.startswith(_ASKS):
                self.is_asked = True
            elif line.is_end:
                self.end = json.loads(line.body)["data"]

    def told(self, session: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of a run that has succeeded."""
        names = self._found if self._wanted is None else self._wanted
        outputs = [_output(self._found[name], names[name]) for name in names if name in self._found]
        return {"session_id": session, "outputs": [{"inputs": inputs, "outputs": outputs}]}


def _wanted(work: Definition, output_type: str | None) -> dict[str, str] | None:
    """Return the vertices whose results are told, each with what people call it; `None` for all."""
    if output_type == DEBUG or not isinstance(work, DocumentFlow):
        return None
    shown = [output for output in work.outputs if output.type == (output_type or "chat")]
    if output_type == ANY or (output_type is None and not shown):
        shown = [*work.outputs]
    return {output.id: output.label for output in shown}


def _output(built: dict[str, Any], label: str | dict[str, Any]) -> dict[str, Any]:
    data = built["data"]
    message = data["message"] if isinstance(data["message"], dict) else None
    return {
        "component_id": built["id"],
        "component_display_name": label if isinstance(label, str) else built["id"],
        "results": data["results"],
        "outputs": data["outputs"],
        "artifacts": data["artifacts"],
        "logs": data["logs"],
        "messages": [] if message is None else [_said(message, built["id"])],
        "timedelta": data["timedelta"],
        "duration": data["duration"],
    }


def _said(message: dict[str, Any], vertex: str) -> dict[str, Any]:
    return {
        "message": message["text"],
        "sender": message["sender"],
        "sender_name": message["sender_name"],
        "session_id": message["session_id"],
        "files": message["files"],
        "component_id": vertex,
        "type": "message",
    }


@asynccontextmanager
async def stopped_when_gone(request: Request, reader: Reader) -> AsyncGenerator[None]:
    """Stop a reader when the client has gone whose request it reads for."""
    listening = asyncio.create_task(until_gone(request.receive, reader))
    try:
        yield
    finally:
        listening.cancel()


class RunStream(LineStream):
    """A run's events as they come; the last one has the run's answer, as `result`.

    Args:
        stream: What `LineStream` takes.
        outputs: Collects the outputs.
        session: Id of the conversation.
        inputs: What the run was given.
    """

    def __init__(self, *stream: Any, outputs: Outputs, session: str, inputs: dict[str, Any]) -> None:
        """Send nothing yet."""
        super().__init__(*stream)
        self._outputs, self._session, self._inputs = outputs, session, inputs

    def framed(self, lines: Sequence[Line]) -> bytes:
        """Return lines as they are sent."""
        self._outputs.take(lines)
        end = self._outputs.end
        if end is None or end["status"] != "succeeded":
            return super().framed(lines)
        whole = Told("end", {**end, "result": self._outputs.told(self._session, self._inputs)})
        last = lines[-1]._replace(body=encode(whole))
        return framed([*lines[:-1], last], SSE)
