"""Answers what tasks ask about themselves and about what failed: requests of attempts, and parts of failures."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.engine.program import GATHER, INTERNAL
from millstream.engine.request import STAMPS, Request
from millstream.engine.scope import Call, Scope
from millstream.engine.side import SideScope
from millstream.errors import Skip
from millstream.graph.frame import Frame, GraphFrame
from millstream.model.graph import Arg, Failed, Node, Packed, Result, arguments, predecessors
from millstream.model.job import NodeState

if TYPE_CHECKING:
    from millstream.engine.run import Run


def request_of(run: Run, frame: Frame, index: int, attempt: int, call: Call | None) -> Request:
    """Return an attempt as its task sees it.

    Args:
        run: Whose attempt it is.
        frame: The node's frame.
        index: The node's index there.
        attempt: Which attempt it is, from 1.
        call: Its arguments, where it is one call that has them.
    """
    due = run.dues.get((frame, index))
    is_redelivered = run.past is not None or (due is not None and due.is_requeued)
    if isinstance(frame.content, SideScope):
        return frame.content.request(index, attempt, call, is_redelivered=is_redelivered)
    node, path, policy = frame.node(index), frame.name(index), frame.content.policy(index)
    task_id = _task_id(run, path)
    position, chord = _membership(run, frame, index)
    headers = _headers(frame, node)
    stamps = headers.get(STAMPS) or {}
    return Request(
        id=task_id,
        root_id=run.job_id,
        parent_id=_parent(run, frame, index),
        correlation_id=task_id,
        job_id=run.job_id,
        node=path,
        task=node.task,
        retries=attempt - 1,
        max_retries=policy.retries,
        args=None if call is None else call[0],
        kwargs=None if call is None else call[1],
        headers={key: value for key, value in headers.items() if key != STAMPS} or None,
        stamps=stamps,
        stamped_headers=list(stamps) or None,
        timelimit=(policy.timeout, policy.soft_timeout),
        expires=_expiry(run, policy.expires),
        eta=_written(run.job.starts_at),
        delivery_info={
            "routing_key": policy.queue,
            "priority": policy.priority or run.job.priority,
            "redelivered": is_redelivered,
            "is_eager": run.services.is_eager,
        },
        group=None if position is None else run.job_id,
        group_index=position,
        chord=chord,
        hostname=socket.gethostname(),
        owner=run.job.owner,
        is_eager=run.services.is_eager,
    )


def _task_id(run: Run, path: str) -> str:
    """Return the task id of a node: the one that it was given, else the job's id and the node's path."""
    return run.given_ids.get(path) or f"{run.job_id}.{path}"


def _headers(frame: Frame, node: Node) -> dict[str, Any]:
    """Return a node's headers; an item of a map has those of the map."""
    home = frame if isinstance(frame, GraphFrame) else frame.parent
    return {} if node.headers is None or home is None else home.content.resolve(node.headers)


def _expiry(run: Run, seconds: float | None) -> str | None:
    times = [run.job.expires_at, None if seconds is None else run.job.created_at + seconds]
    return _written(min((time for time in times if time is not None), default=None))


def _written(time: float | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat()


def _parent(run: Run, frame: Frame, index: int) -> str | None:
    """Return the task id of the first task before a node, or before the node that its frame stands for, and so on."""
    before = next(_tasks_before(frame.shape.graph.nodes, index), None) if isinstance(frame, GraphFrame) else None
    if before is not None:
        return _task_id(run, frame.name(before))
    return run.job.parent if frame.parent is None else _parent(run, frame.parent, frame.index)


def _tasks_before(nodes: Sequence[Node], index: int) -> Iterator[int]:
    """Yield a node's predecessors that are tasks; of those that the engine itself put there, what comes before them."""
    for before in predecessors(nodes[index]):
        if nodes[before].kind in ("task", "flow") and not nodes[before].task.startswith(INTERNAL):
            yield before
        else:
            yield from _tasks_before(nodes, before)


def _membership(run: Run, frame: Frame, index: int) -> tuple[int | None, str | None]:
    """Return which member of a group a node is, and the task id of what joins the group where members may add to it."""
    if not isinstance(frame, GraphFrame):
        return None, None
    shape = frame.shape
    nodes = shape.graph.nodes
    found = _position(index, shape.graph.result)
    for after in (*shape.fast[index], *(target for target, _ in shape.slow[index])):
        position = next((at for arg in arguments(nodes[after]) if (at := _position(index, arg)) is not None), None)
        if position is not None and nodes[after].task == GATHER:
            return position, _task_id(run, frame.name(after))
        found = position if found is None else found
    return found, None


def _position(index: int, arg: Arg | None) -> int | None:
    if not isinstance(arg, Packed):
        return None
    return next((at for at, item in enumerate(arg.items) if item == Result(index)), None)


# ---------------------------------------------------------------------------------------------------- what failed
def bring_failures(run: Run, frame: Frame) -> None:
    """Let the errbacks of a frame ask what failed in it."""
    scope = frame.content
    if isinstance(scope, Scope) and scope.program.has_errbacks:
        scope.failed = partial(_part_of, run, frame)


def _part_of(run: Run, frame: Frame, arg: Failed) -> Any:
    """Return what an errback is given of the first of its nodes that failed itself.

    Raises:
        Skip: None of them failed itself.
    """
    for index in arg.nodes:
        if frame.state(index) == NodeState.FAILED:
            return _part(run, frame, index, arg)
    raise Skip("nothing that it handles has failed")


def _part(run: Run, frame: Frame, index: int, arg: Failed) -> Any:
    match arg.part:
        case "id":
            return _task_id(run, frame.name(index))
        case "request":
            # A mapped node has no attempt of its own: its arguments are those of the whole map.
            (call,) = frame.content.calls(index)
            return request_of(run, frame, index, run.attempt_of(frame, index), call)
        case "error":
            return run.failure_of(frame.name(index)).to_error()
        case "traceback":
            return run.failure_of(frame.name(index)).traceback
