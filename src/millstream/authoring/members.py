"""The tasks that stand in graphs whose nodes may add to their chord (`self.add_to_chord`)."""

from __future__ import annotations

from typing import Any

from millstream.authoring.task import task
from millstream.engine.program import GATHER, Members


@task(name=GATHER, run_in="loop", effect="pure")
def gather(results: list[Any]) -> list[Any]:
    """Join the results of a chord's header: what its members returned, then what they added.

    >>> gather([Members(1, [10]), 2, Members(3, [30, 31])])
    [1, 2, 3, 10, 30, 31]
    """
    own = [result.own if isinstance(result, Members) else result for result in results]
    return own + [extra for result in results if isinstance(result, Members) for extra in result.extras]


@task(run_in="loop", effect="pure")
def members(own: Any, extras: list[Any]) -> Members:
    """Join what a task returned with the results of what it added to its chord."""
    return Members(own, extras)
