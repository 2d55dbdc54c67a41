"""Flow documents that tests keep and change."""

from __future__ import annotations

from typing import Any

from millstream.authoring.documents.structure import SUBFLOW

ECHO: dict[str, Any] = {
    "nodes": [
        {"id": "question", "data": {"component": "ChatInput"}, "position": {"x": 0, "y": 0}},
        {"id": "answer", "data": {"component": "ChatOutput"}, "position": {"x": 300, "y": 0}},
    ],
    "edges": [
        {
            "source": "question",
            "sourceHandle": "message",
            "target": "answer",
            "targetHandle": "input_value",
        }
    ],
}


def calling(flow_id: str) -> dict[str, Any]:
    """Return a document with a sub-flow."""
    return {
        "nodes": [{"id": "inner", "data": {"component": SUBFLOW.name, "values": {"flow": flow_id}}}],
        "edges": [],
    }
