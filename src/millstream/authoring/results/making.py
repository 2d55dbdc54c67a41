"""Makes results: of what was submitted, of an id, and of what `as_tuple` told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from millstream.authoring import current
from millstream.authoring.canvas.spine import GroupSpine, Spine
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.group_result import GroupResult
from millstream.model.graph import Arg, Packed, Result

_Made = AsyncResult | GroupResult


def of_submission(app: current.App, job_id: str, spine: Spine | None) -> _Made:
    """Return the result of what was submitted, in the shape of its canvas; without a shape, that of the job."""
    if spine is None:
        return AsyncResult.of_node(app, job_id, None)
    made = _of_spine(app, job_id, spine)
    if isinstance(made, GroupResult) and isinstance(spine, GroupSpine):
        made.id = spine.id or job_id
    return made


def _of_spine(app: current.App, job_id: str, spine: Spine) -> _Made:
    line = [spine]
    while (parent := line[-1].parent) is not None:  # chains may be longer than calls may be deep
        line.append(parent)
    made = _of_step(app, job_id, line.pop(), None)
    for step in reversed(line):
        made = _of_step(app, job_id, step, made)
    return made


def _of_step(app: current.App, job_id: str, step: Spine, parent: _Made | None) -> _Made:
    if not isinstance(step, GroupSpine):
        return AsyncResult.of_node(app, job_id, step.node, parent, step.id)
    members = [_of_spine(app, job_id, member) for member in step.members]
    return GroupResult(step.id or _id_of(job_id, members), members, app=app, parent=parent)


def _of_returned(app: current.App, job_id: str, nodes: Sequence[str], returned: Arg | None) -> _Made | None:
    """Return the result of what a job returns: a group's members are results of nodes, in a list."""
    match returned:
        case Result(index, ()):
            return AsyncResult.of_node(app, job_id, nodes[index])
        case Packed("list", items):
            members = [_of_returned(app, job_id, nodes, item) for item in items]
            known = [member for member in members if member is not None]
            return GroupResult(_id_of(job_id, known), known, app=app) if len(known) == len(members) else None
    return None


def _id_of(job_id: str, members: Sequence[_Made]) -> str:
    """Return the id of a group that is a part of a job: the same whenever it is made."""
    return str(uuid5(UUID(job_id), ",".join(str(member.id) for member in members)))


async def group_of(app: current.App, task_id: str) -> GroupResult | None:
    """Return the result of the group that is a whole job, by the job's id or the group's; `None` for any other id."""
    place = await app.locate(task_id)
    if place is None or place[1] is not None:
        return None
    graph, _ = await app.graph(place[0])
    made = _of_returned(app, place[0], [node.id for node in graph.nodes], graph.result)
    if isinstance(made, GroupResult):
        made.id = task_id
        return made
    return None


async def of_id(app: current.App, task_id: str) -> _Made:
    """Return the result of a task, or of a group where the id is that of one."""
    return await group_of(app, task_id) or AsyncResult(task_id, app=app)


def result_from_tuple(told: Any, *, app: current.App | None = None) -> Any:
    """Return the result that `as_tuple` told of, with its parents and members.

    Raises:
        ValueError: It is nothing that `as_tuple` gives.

    Example:
        >>> from millstream import AsyncResult, result_from_tuple
        >>> result_from_tuple((("a", (("b", None), None)), None)).parent
        <AsyncResult: b>
    """
    try:
        (task_id, told_parent), told_members = told
    except (TypeError, ValueError):
        raise ValueError(f"a result is told as ((id, parent), members), not {told!r}") from None
    parent = None if told_parent is None else result_from_tuple(told_parent, app=app)
    if told_members is None:
        return AsyncResult(task_id, app=app, parent=parent)
    return GroupResult(task_id, [result_from_tuple(member, app=app) for member in told_members], app=app, parent=parent)
