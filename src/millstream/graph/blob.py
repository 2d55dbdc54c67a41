"""A plan as a compact blob, and back.

Only what cannot be worked out again is in it: a state per node, what routers chose, a bitmap per map. All counters
follow from these. The same facts give the same bytes, in whatever order they arrived.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from millstream.graph.frame import Frame, GraphFrame, ItemsFrame
from millstream.graph.plan import Plan, Settle, by_outcome
from millstream.graph.shape import Shape
from millstream.model.job import NodeState


class _GraphState(msgspec.Struct, frozen=True, tag="g", array_like=True):
    path: str
    parent: str
    index: int
    digest: str
    states: bytes
    labels: dict[int, str]


class _ItemsState(msgspec.Struct, frozen=True, tag="i", array_like=True):
    path: str
    parent: str
    index: int
    size: int
    window: int
    next: int
    done: bytes
    bad: dict[int, NodeState]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[_GraphState | _ItemsState, ...])


def dump(plan: Plan) -> bytes:
    """Return a plan as MessagePack: one entry per open frame, outer frames first."""
    frames = sorted(plan.frames.values(), key=lambda frame: (frame.depth, frame.path))
    return _encoder.encode(tuple(_state(frame) for frame in frames))


def load(blob: bytes, shapes: Callable[[str], Shape], settle: Settle = by_outcome) -> Plan:
    """Return the plan that `dump` wrote.

    Args:
        blob: What `dump` returned.
        shapes: Gives the compiled graph for a digest.
        settle: See `Plan`.

    Raises:
        msgspec.DecodeError: The blob is not one.
    """
    root, *others = _decoder.decode(blob) or (None,)
    if not isinstance(root, _GraphState):
        message = "the blob of a plan must begin with the root graph"
        raise msgspec.ValidationError(message)
    plan = Plan(shapes(root.digest), settle)
    plan.root.restore(root.states, root.labels)
    for state in others:
        parent = plan.frames[state.parent]
        plan.frames[state.path] = _frame(state, parent, shapes)
    return plan


def _state(frame: Frame) -> _GraphState | _ItemsState:
    parent = frame.parent.path if frame.parent is not None else ""
    if isinstance(frame, ItemsFrame):
        bad = {index: frame.bad[index] for index in sorted(frame.bad)}
        done = bytes(frame.done)
        return _ItemsState(frame.path, parent, frame.index, frame.size, frame.window, frame.next, done, bad)
    if not isinstance(frame, GraphFrame):
        message = f"a {type(frame).__name__} has no place in a blob"
        raise TypeError(message)
    labels = {index: frame.labels[index] for index in sorted(frame.labels)}
    return _GraphState(frame.path, parent, frame.index, frame.shape.digest, bytes(frame.states), labels)


def _frame(state: _GraphState | _ItemsState, parent: Frame, shapes: Callable[[str], Shape]) -> Frame:
    if isinstance(state, _ItemsState):
        items = ItemsFrame(state.path, parent, state.index, state.size, state.window)
        items.restore(state.next, state.done, state.bad)
        return items
    graph = GraphFrame(state.path, parent, state.index, shapes(state.digest))
    graph.restore(state.states, state.labels)
    return graph
