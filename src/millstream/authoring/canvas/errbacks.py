"""Errbacks: what they are given of the failure that they answer for."""

from __future__ import annotations

from typing import Any

from millstream.engine.program import INTERNAL
from millstream.engine.signatures import signature_of
from millstream.model.graph import Failed

_REQUEST_ERROR_TRACEBACK = 3

FAILED_TASK = f"{INTERNAL}failed_task"
"""Name of the task that stands for a failure before an errback that is not given the failure itself."""


def errback_arguments(work: Any, own: int, suspects: tuple[int, ...]) -> tuple[Failed, ...]:
    """Return what an errback is given: request, error and traceback if it takes them, else the failed task's id.

    Args:
        work: The errback's task or flow.
        own: How many arguments by position its signature brings itself.
        suspects: The nodes that it answers for, in order.
    """
    places = 0
    for parameter in signature_of(work.fn).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            places = own + _REQUEST_ERROR_TRACEBACK
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            places += 1
    if places - own >= _REQUEST_ERROR_TRACEBACK:
        return (Failed(suspects, "request"), Failed(suspects, "error"), Failed(suspects, "traceback"))
    return (Failed(suspects, "id"),)
