"""Which tasks of a job run or are next, in the form in which Celery's workers tell of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millstream.authoring import current
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.watch import Watch
from millstream.engine.program import INTERNAL
from millstream.model.graph import Node, predecessors
from millstream.model.job import JobRecord


async def due_tasks(app: current.App, job: JobRecord, named: Mapping[str, str]) -> list[AsyncResult]:
    """Return the results of the tasks of a job that have not ended, though all before them has.

    Args:
        app: The app.
        job: The job.
        named: Task ids of their own, by the nodes that have one.
    """
    watch = app.watch(job.id)
    await watch.refresh()
    nodes = (await watch.graph())[0].graph.nodes
    return [
        AsyncResult.of_node(app, job.id, node.id, task_id=named.get(node.id, ""))
        for node in nodes
        if node.kind == "task" and not node.task.startswith(INTERNAL) and _is_due(watch, nodes, node)
    ]


def as_request(result: AsyncResult, job: JobRecord, hostname: str) -> dict[str, Any]:
    """Return what Celery tells of a task that a worker has."""
    return {
        "id": result.id,
        "name": result.name,
        "type": result.name,
        "args": list(result.args or ()),
        "kwargs": result.kwargs or {},
        "hostname": hostname,
        "time_start": job.started_at,
        "delivery_info": {"priority": job.priority},
    }


def as_scheduled(request: dict[str, Any], job: JobRecord) -> dict[str, Any]:
    """Return what Celery tells of a task whose time has not come."""
    eta = None if job.starts_at is None else datetime.fromtimestamp(job.starts_at, UTC).isoformat()
    return {"eta": eta, "priority": job.priority, "request": request}


def _is_due(watch: Watch, nodes: tuple[Node, ...], node: Node) -> bool:
    if watch.job.is_ready or watch.standing(node.id).is_ready:
        return False
    return all(watch.standing(nodes[before].id).is_ready for before in predecessors(node))
