"""What a job's record says, for a run that goes on from it.

Going on means to run the plan again from its start, with each node that the record knows answered at once. The outcome
of a plan does not depend on the order of its facts, so the run arrives where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from millstream.errors import RecordMismatchError
from millstream.model.event import Draft, Event
from millstream.model.graph import Graph
from millstream.model.job import NodeState

_STATES = {
    "node_succeeded": NodeState.SUCCEEDED,
    "node_failed": NodeState.FAILED,
    "node_skipped": NodeState.SKIPPED,
    "node_cancelled": NodeState.CANCELLED,
}
_ONCE_ONLY = frozenset({*_STATES, "node_upstream_failed", "expanded", "routed", "noted"})
_graph = msgspec.json.Decoder(Graph)


class End(msgspec.Struct, frozen=True, gc=False):
    """How a node ended, as recorded.

    Attributes:
        state: How.
        data: What its event says: `attempt`, and `value`, `error` or `message`.
        seq: Number of its event.
        label: What it chose, where it is a router.
    """

    state: NodeState
    data: dict[str, Any]
    seq: int
    label: str | None = None

    @classmethod
    def of(cls, event: Event, label: str | None) -> End:
        """Return what the event of an end says."""
        return cls(_STATES[event.type], event.data or {}, event.seq, label)


class Due(NamedTuple):
    """A node's next attempt.

    Attributes:
        attempt: Its number, from 1.
        at: When it is due; seconds since the epoch, UTC.
        expires: When it must have started, where that is bounded.
        is_requeued: Whether it was begun before, and rejected.
    """

    attempt: int
    at: float
    expires: float | None
    is_requeued: bool

    @classmethod
    def of(cls, data: dict[str, Any], since: float) -> Due:
        """Return what the record of a failed attempt says of the next one."""
        is_requeued = data.get("requeued", False)
        attempt = data["attempt"] + (0 if is_requeued else 1)
        expires = data.get("expires")
        return cls(attempt, since + data["delay"], None if expires is None else since + expires, is_requeued)


def drawn_in(event: Event) -> tuple[Graph, list[Any]]:
    """Return the graph that took a node's place, and its bindings, as the event says."""
    return _graph.decode(event.data["graph"]), event.data["bindings"]


class Past:
    """The facts of a job's record, each by the path of its node.

    Attributes:
        ends: Nodes that ended.
        retried: Nodes between two attempts: the next one.
        begun: Nodes that must run only once and have begun: the attempt. What became of it is not known.
        waits: What open waits said when they began.
        answers: What waits were answered.
        continued: Conducting flows that began anew: how often, and with what arguments the last time.
        out: Nodes that were handed out and are not back, each with its side segment.
        last_segment: The highest number of a segment of the job.
    """

    __slots__ = (
        "_calls",
        "_drawn",
        "_known",
        "_labels",
        "_notes",
        "answers",
        "begun",
        "continued",
        "ends",
        "last_segment",
        "out",
        "retried",
        "waits",
    )

    def __init__(self, events: Iterable[Event]) -> None:
        """Take a job's durable events, in order."""
        self.ends: dict[str, End] = {}
        self.retried: dict[str, Due] = {}
        self.begun: dict[str, int] = {}
        self.waits: dict[str, dict[str, Any]] = {}
        self.answers: dict[str, Any] = {}
        self.continued: dict[str, tuple[int, tuple[Any, ...], dict[str, Any]]] = {}
        self._drawn: dict[str, tuple[Graph, list[Any]]] = {}
        self._calls: dict[str, tuple[str, str | None]] = {}
        self._notes: dict[str, Any] = {}
        self.out: dict[str, int] = {}
        self.last_segment = 1
        self._known: set[tuple[str, str | None]] = set()
        self._labels: dict[str, str] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take one more of the job's durable events."""
        if event.type in _ONCE_ONLY:
            self._known.add((event.type, event.node))
        if event.node is not None:
            self._take(event, event.node, event.data or {})
        elif event.type == "handed_out":
            self.last_segment = max(self.last_segment, event.data["segment"])
            self.out.update({node["path"]: event.data["segment"] for node in event.data["nodes"]})
        elif event.type == "taken_back":
            segment = event.data["segment"]
            self.out = {path: its for path, its in self.out.items() if its != segment}

    def is_settled(self, path: str) -> bool:
        """Whether there is nothing left to do at a node for whoever it was handed to."""
        return path in self.ends or path in self._drawn or path in self.waits

    @property
    def has_cancelled(self) -> bool:
        """Whether a node was cancelled."""
        return any(end.state is NodeState.CANCELLED for end in self.ends.values())

    def _take(self, event: Event, path: str, data: dict[str, Any]) -> None:
        match event.type:
            case "routed":
                self._labels[path] = data["label"]
            case "expanded" if "graph" in data:
                self._drawn[path] = drawn_in(event)
                self.out.pop(path, None)
                self.begun.pop(path, None)  # a task that gave a graph has come to its end
            case "expanded" if "call" in data:
                self._calls[path] = data["call"], data.get("arguments")
            case "continued":
                self.continued[path] = data["times"], tuple(data["args"]), data["kwargs"]
            case "noted":
                self._notes[path] = data["value"]
            case kind:
                self._take_attempt(kind, event, path, data)
        if event.type in _STATES:
            self.ends[path] = End.of(event, self._labels.get(path))
            self.out.pop(path, None)
            self.begun.pop(path, None)

    def _take_attempt(self, kind: str, event: Event, path: str, data: dict[str, Any]) -> None:
        """Follow a node's attempts and waits; an answer counts for the attempt that it was asked for, and no other."""
        match kind:
            case "node_started":
                self.begun[path] = data["attempt"]
                self.answers.pop(path, None)
                self.waits.pop(path, None)
            case "node_retried":
                self.retried[path] = Due.of(data, event.at)
                self.begun.pop(path, None)
                self.answers.pop(path, None)
            case "waiting":
                self.waits[path] = data
                self.out.pop(path, None)
                self.answers.pop(path, None)
            case "answered":
                self.answers[path] = data["answer"]
                self.waits.pop(path, None)

    def unknown(self, put: Callable[[Draft], None]) -> Callable[[Draft], None]:
        """Return what puts a draft only where the record does not have it already."""
        known = self._known

        def put_new(draft: Draft) -> None:
            if (draft[1], draft[3]) not in known:
                put(draft)

        return put_new

    def drawn(self, path: str) -> tuple[Graph, list[Any]] | None:
        """Return the graph and the bindings that a sub-flow was drawn with."""
        return self._drawn.get(path)

    def check_call(self, path: str, name: str, arguments: str | None) -> None:
        """Refuse a recorded call that is another than the record says.

        Raises:
            RecordMismatchError: It is.
        """
        known, known_arguments = self._calls.get(path, (name, None))
        why = (
            "the flow's code has changed, or it goes by something that is not recorded (use ctx.now and ctx.random; "
            "asyncio.as_completed starts coroutines in no order, give it tasks)"
        )
        if known != name:
            raise RecordMismatchError(f"{path} calls {name} now, but its record says {known}: {why}")
        if None not in (arguments, known_arguments) and arguments != known_arguments:
            raise RecordMismatchError(f"{path} calls {name} with other arguments than its record says: {why}")

    def note(self, path: str, make: Callable[[], Any]) -> Any:
        """Return what was noted at a place; where nothing was, what `make` gives."""
        return self._notes[path] if path in self._notes else make()
