"""Answers nodes by the record, in a run that goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from millstream.engine.again import go_on
from millstream.engine.past import End, Past
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.job import NodeState

if TYPE_CHECKING:
    from millstream.engine.run import Run


def recall(run: Run, past: Past, frame: Frame, index: int) -> Sequence[Place] | None:
    """Answer a node by the record; return what may start then, or `None` where the node has to run."""
    path = frame.name(index)
    end = past.ends.get(path)
    if end is not None:
        return take_end(run, frame, index, end)
    if run.handing is not None and run.handing.recall(frame, index):
        return ()
    return _go_on(run, past, frame, index)


def take_end(run: Run, frame: Frame, index: int, end: End) -> Sequence[Place]:
    """Let the plan go on from a node's end that is on record; return what may start then."""
    match end.state:
        case NodeState.SUCCEEDED:
            return run.advance(frame, index, end.data["value"], end.label)
        case NodeState.FAILED:
            run.attempts[frame, index] = end.data["attempt"]  # which its errback may ask for
            return run.take_failure(frame, index, end.data["error"])
        case NodeState.SKIPPED:
            return run.follow(run.plan.ended(frame, index, NodeState.SKIPPED))
        case _:
            return ()  # a call that its body took back, as it will do again


def _go_on(run: Run, past: Past, frame: Frame, index: int) -> Sequence[Place] | None:
    """Go on with a node's attempts where the record stops."""
    path = frame.name(index)
    due = past.retried.pop(path, None)
    if due is not None:
        following = go_on(run, frame, index, due)
        if following is not None:
            return following
    begun = past.begun.pop(path, None)
    return None if begun is None else run.waits.for_decision(frame, index, begun, None)
