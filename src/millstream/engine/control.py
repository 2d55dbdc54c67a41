"""Nodes at which the engine itself acts: routers, merges, loops, sleeps and approvals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from millstream.engine.scope import Scope
from millstream.errors import LoopLimitError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import Failure, record_failure
from millstream.model.graph import Node, results_in
from millstream.model.job import NodeState

if TYPE_CHECKING:
    from millstream.engine.run import Run

DEFAULT_LABEL = "default"
_TRUTH = {"true", "false"}


def act(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    """Do what stands at a node that has no task.

    Raises:
        ValueError: A router has no way for the value it got, or a sleep's length is none.
    """
    node = frame.node(index)
    match node.kind:
        case "router":
            return _route(run, frame, index, node)
        case "merge":
            return run.succeeded(frame, index, _first_result(frame, node), 0)
        case "loop":
            ((state, _),) = frame.content.calls(index)
            return _turn(run, frame, index, 0, state)
        case "sleep":
            return _sleep(run, frame, index)
        case _:
            return _ask(run, frame, index)


def _route(run: Run, frame: Frame, index: int, node: Node) -> Sequence[Place]:
    (((value,), _),) = frame.content.calls(index)
    label = choose(value, node.labels)
    run.put((True, "routed", run.now(), frame.name(index), {"label": label}))
    return run.succeeded(frame, index, label, 0, label)


def label_of(value: Any) -> str:
    """Return the label of the way for a value; it differs from every label with a meaning of its own."""
    return f"={value}"


def choose(value: Any, labels: tuple[str, ...]) -> str:
    """Return the label for a value: by truth where the labels are `true` and `false`, else the one equal to it.

    Raises:
        ValueError: No label is equal to it, and there is no `default`.

    >>> choose([], ("true", "false"))
    'false'
    """
    if _TRUTH.issuperset(labels):
        return "true" if value else "false"
    label = label_of(value)
    if label in labels:
        return label
    if DEFAULT_LABEL in labels:
        return DEFAULT_LABEL
    raise ValueError(
        f"the router has no way for {value!r}; it has {', '.join(label.removeprefix('=') for label in labels)}"
    )


def _first_result(frame: Frame, node: Node) -> Any:
    for arg in node.args:
        if all(frame.state(source) == NodeState.SUCCEEDED for source in results_in(arg)):
            return frame.content.resolve(arg)
    return None


# --------------------------------------------------------------------------------------------------------- loops
def _turn(run: Run, frame: Frame, index: int, turn: int, state: Sequence[Any]) -> Sequence[Place]:
    """Put the graph of a turn in the loop's place."""
    program = frame.content.program
    body = program.body(index)
    return run.open(frame, index, f"[{turn}]", body.shape, Scope(body, state))


def turned(run: Run, frame: Frame, failure: Failure | None) -> Sequence[Place]:
    """A turn is over: take the next one, or end the loop."""
    loop, index = frame.parent, frame.index
    if loop is None:
        return ()
    if failure is None:
        try:
            state, is_last = frame.content.result()
            is_last = bool(is_last)
        except Exception as error:  # noqa: BLE001  whatever the state's truth raises fails the loop
            failure = record_failure(error, loop.name(index))
    if failure is not None:
        return run.ended_badly(loop, index, failure, 1)
    if is_last:
        return run.succeeded(loop, index, state[0] if len(state) == 1 else tuple(state), 1)
    turn, limit = int(frame.path.rpartition("[")[2][:-1]) + 1, loop.node(index).max_turns
    if turn >= limit:
        over = LoopLimitError(f"it has taken {limit} turns (max_turns) and its condition still does not hold")
        return run.ended_badly(loop, index, record_failure(over, loop.name(index)), 1)
    ((first, _),) = loop.content.calls(index)
    return _turn(run, loop, index, turn, [*state, *first[len(state) :]])


# --------------------------------------------------------------------------------------------------------- waits
def _sleep(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    (((length,), _),) = frame.content.calls(index)
    return run.waits.for_time(frame, index, run.now() + seconds_until(length, run.now()))


def seconds_until(length: Any, now: float) -> float:
    """Return how long a wait takes: of seconds, a `timedelta`, or an instant (an aware `datetime`).

    Raises:
        ValueError: It is none of these, or an instant without a time zone.

    >>> seconds_until(timedelta(minutes=2), now=0.0)
    120.0
    """
    match length:
        case timedelta():
            seconds = length.total_seconds()
        case datetime() if length.tzinfo is not None:
            seconds = (length - datetime.fromtimestamp(now, UTC)).total_seconds()
        case int() | float() if not isinstance(length, bool) and not math.isnan(length):
            seconds = float(length)
        case _:
            raise ValueError(f"a wait takes seconds, a timedelta or a datetime with a time zone, not {length!r}")
    return max(0.0, seconds)


def _ask(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    ((args, _),) = frame.content.calls(index)
    return run.waits.for_answer(frame, index, args[0] if args else None)
