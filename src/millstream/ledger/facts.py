"""What the events of a job say of its nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from millstream.errors import JobNotFoundError
from millstream.model.job import NodeResult, NodeState

ENDS = {
    f"node_{state.label}": state
    for state in (
        NodeState.SUCCEEDED,
        NodeState.FAILED,
        NodeState.SKIPPED,
        NodeState.UPSTREAM_FAILED,
        NodeState.CANCELLED,
    )
}
"""The event types that are a node's end, with how it ended."""


def node_result(state: NodeState, path: str, data: dict[str, Any] | None) -> NodeResult:
    """Return the node result that an event of one of the `ENDS` tells."""
    told = data or {}
    return NodeResult(path, state, told.get("attempt", 0), told.get("value"), told.get("error"))


def awaited(facts: Iterable[tuple[str, str | None, Any]], node: str) -> str | None:
    """Return what a node waits for from people: `approval` or `decision`; `None` where it does not.

    Args:
        facts: The (type, node, data) of its job's durable events, in order.
        node: Its path.
    """
    reason = None
    for kind, path, data in facts:
        if path == node:
            reason = data["reason"] if kind == "waiting" else None
    return None if reason == "timer" else reason


def no_event(job_id: str, seq: int) -> JobNotFoundError:
    """Return the error of whoever asks for an event that a job does not have."""
    return JobNotFoundError(f"job {job_id} has no event {seq}")
