"""What became of a canvas, as plain data: the same reading of either library's results."""

from __future__ import annotations

from typing import Any, TypedDict

Outcome = dict[str, Any]
"""One of `{"value": …}`, `{"error": CLASS}`, `{"group": [OUTCOME, …]}`, `{"never": true}`."""


def outcome_of(result: Any) -> Outcome:
    """Return what a result holds, once nothing of its canvas runs any more.

    A task that never ran has the end of whatever before it failed: that is what its `get` raises.
    """
    if result is None:
        return {"nothing": True}
    if getattr(result, "results", None) is not None:
        return {"group": [outcome_of(member) for member in result.results]}
    if result.successful():
        return {"value": result.get(timeout=5)}
    return _failed(result)


def _failed(result: Any) -> Outcome:
    while result is not None:
        if getattr(result, "results", None) is not None:
            ends = [_failed(member) for member in result.results if not member.successful()]
            errors = [end for end in ends if "error" in end]
            if errors:
                return errors[0]
        elif result.failed():
            return {"error": type(result.result).__name__}
        result = result.parent
    return {"never": True}


class Played(TypedDict):
    """What became of a case, and what its tasks noted, in any order."""

    outcome: Outcome
    notes: list[list[Any]]
