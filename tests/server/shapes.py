"""Shapes of answers: what is recorded of them, since their values differ each time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

FREE = {"results", "outputs", "artifacts", "logs", "message", "question"}
"""Fields that hold what tasks return, or messages, whose shape is recorded for itself."""


def shape_of(value: Any, free: Collection[str] = FREE) -> Any:
    """Return what kinds of values there are: of a list the kind of what it holds, of some fields nothing."""
    if isinstance(value, dict):
        return {key: "value" if key in free else shape_of(item, free) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape_of(item, free) for item in value[:1]]
    return "null" if value is None else type(value).__name__
