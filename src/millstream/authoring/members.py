"""Millstream's own tasks: of graphs whose nodes may add to their chord (`self.add_to_chord`), and of kept groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millstream.authoring.canvas.errbacks import FAILED_TASK
from millstream.authoring.task import Task, task
from millstream.engine.program import COLLECTED, GATHER, MEMBERS, OWN_VALUE, Members


@task(name=GATHER, run_in="loop", effect="pure")
def gather(results: list[Any]) -> list[Any]:
    """Join the results of a chord's header: what its members returned, then what they added.

    >>> gather([Members(1, [10]), 2, Members(3, [30, 31])])
    [1, 2, 3, 10, 30, 31]
    """
    own = [result.own if isinstance(result, Members) else result for result in results]
    return own + [extra for result in results if isinstance(result, Members) for extra in result.extras]


@task(name=MEMBERS, run_in="loop", effect="pure")
def members(results: list[Any], *own: Any) -> Members:
    """Join what a task returned with the results of what it added to its chord.

    A task that was replaced has returned nothing: its replacement's result is the first of the results.

    >>> members([10, 20], 1) == members([1, 10, 20])
    True
    """
    returned, *extras = (*own, *results)
    return Members(returned, extras)


@task(name=OWN_VALUE, run_in="loop", effect="pure")
def own_value(result: Any) -> Any:
    """Return what a task itself returned, without what it added to its chord: what its callbacks get.

    >>> own_value(Members(1, [10])), own_value(2)
    (1, 2)
    """
    return result.own if isinstance(result, Members) else result


@task(name=FAILED_TASK, run_in="loop", effect="pure")
def failed_task(task_id: str) -> str:
    """Return the id of a task that failed: what stands before an errback that is not given the failure itself."""
    return task_id


@task(name=COLLECTED, run_in="loop", effect="pure")
def collected(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return what the outputs of a document gave that runs in a node's place, by node id: that node's result."""
    return outputs


@task(run_in="loop", effect="pure")
def kept_group(members: Any) -> Any:
    """Return which results belong together (see `GroupResult.save`); that they are the job's input is what matters."""
    return members


OWN: Mapping[str, Task[Any, Any]] = {
    own.name: own for own in (gather, members, own_value, failed_task, collected, kept_group)
}
"""Tasks of millstream itself, by name: recorded graphs speak of them in whatever process."""
