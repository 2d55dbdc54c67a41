"""Finds the failure that failed a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from millstream.errors import JobFailedError
from millstream.graph.frame import Frame, GraphFrame
from millstream.model.failure import Failure, record_failure
from millstream.model.job import NodeState


def culprit(frame: Frame, failures: Mapping[str, Failure]) -> Failure:
    """Return the failure that failed a frame: of the deciding nodes' failed ancestors the first.

    Args:
        frame: The frame.
        failures: The failures of nodes, by their paths.
    """
    for index in _suspects(frame):
        failure = failures.get(frame.name(index))
        if failure is not None:
            return failure
    return record_failure(JobFailedError(f"{frame.path or 'the job'} failed without a failed node"))


def _suspects(frame: Frame) -> Iterable[int]:
    """Yield failed nodes of a frame: those that the deciding nodes failed of, first ones first."""
    if not isinstance(frame, GraphFrame):
        yield from (index for index in range(frame.size) if frame.state(index) == NodeState.FAILED)
        return
    seen: set[int] = set()
    trail = [i for i in frame.shape.deciding if frame.state(i) in (NodeState.FAILED, NodeState.UPSTREAM_FAILED)]
    failed = []
    while trail:
        index = trail.pop()
        if index in seen:
            continue
        seen.add(index)
        if frame.state(index) == NodeState.FAILED:
            failed.append(index)
        elif frame.state(index) == NodeState.UPSTREAM_FAILED:
            trail.extend(source for source, _ in frame.shape.before[index])
    yield from sorted(failed)
