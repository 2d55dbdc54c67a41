"""From a job's events to the events of a build, as clients of `/api/v1/build` know them. Pure.

What durable events give is a function of durable events alone: a job that is read again after a restart gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from millstream.graph.shape import Shape
from millstream.ledger.facts import ENDS
from millstream.model.event import TERMINAL, Event
from millstream.model.job import NodeState
from millstream.server.builds import shapes
from millstream.server.builds.shapes import Build, Speaker
from millstream.server.builds.vertices import Vertices

_CAN_STREAM = frozenset({"task", "flow", "loop"})
"""The kinds of nodes whose tasks may say something while they run."""


class Told(NamedTuple):
    """One event of a build: its name, and what it says, which is plain JSON."""

    name: str
    data: dict[str, Any]


class Translator:
    """Translates the events of one job, in order; each event once.

    Args:
        build: The job.
        shape: Its compiled graph.
        speakers: The tasks that are one side of a conversation: what they return is a message.

    Example:
        >>> from millstream.model.graph import Graph, Node
        >>> build = Build("0199", "shop.greet", "0199")
        >>> translator = Translator(build, Shape(Graph((Node("greet", task="shop.greet"),))), {})
        >>> translator.take(Event(1, 0, "planned", 5.0, None, {"nodes": 1}))
        [Told(name='vertices_sorted', data={'ids': ['greet'], 'to_run': ['greet']})]
        >>> translator.take(Event(2, 0, "ended", 6.5, None, {"state": "cancelled", "reason": "cancel"}))
        [Told(name='end', data={'status': 'cancelled', 'reason': 'cancel', 'build_duration': 1.5})]
    """

    def __init__(self, build: Build, shape: Shape, speakers: Mapping[str, Speaker]) -> None:
        """Have nothing told yet."""
        self._build = build
        self._vertices = Vertices(shape)
        self._speakers = speakers
        self._submitted_at = 0.0
        self._has_begun = False
        self._has_failed = False
        self._by_type: dict[str, Callable[[Event], list[Told]]] = {
            "planned": self._planned,
            "started": self._started,
            "node_retried": self._retried,
            "waiting": self._waiting,
            "routed": self._routed,
            TERMINAL: self._ended,
        }

    def wants(self, event: Event) -> bool:
        """Whether what an event says of values is told, so that they have to be there whole."""
        if event.node is None:
            return False
        return event.type == "waiting" or (event.type in ENDS and self._vertices.find(event.node) == event.node)

    def take(self, event: Event) -> list[Told]:
        """Return what an event gives, in order; often nothing."""
        known = self._by_type.get(event.type)
        if known is not None:
            return known(event)
        if event.node is None or (vertex := self._vertices.find(event.node)) is None:
            return []
        if event.type in ENDS:
            return [*self._begun(), *self._node_ended(event, vertex)] if event.node == vertex else []
        return self._news(event, vertex)

    # -------------------------------------------------------------------------------------------------- the job
    def _planned(self, event: Event) -> list[Told]:
        self._submitted_at = event.at
        first = self._vertices.begin(event.at)
        return [Told("vertices_sorted", {"ids": first, "to_run": self._vertices.ids})]

    def _begun(self) -> list[Told]:
        """Return the beginning of the build, if it was not told; what is taken over from another job comes before."""
        if self._has_begun:
            return []
        self._has_begun = True
        return [Told("build_start", {"id": self._build.job_id})]

    def _started(self, event: Event) -> list[Told]:
        if event.data["attempt"] == 1:
            return self._begun()
        # Another process goes on: what the vertices that it runs again have streamed so far is void.
        running = [vertex for vertex in self._vertices.running if self._vertices.node(vertex).kind in _CAN_STREAM]
        return [*self._begun(), *(self._void(vertex) for vertex in running)]

    def _ended(self, event: Event) -> list[Told]:
        state, reason = event.data["state"], event.data.get("reason")
        told = []
        if state == "failed" and not self._has_failed:
            failure = shapes.failure(None, f"the build failed: {reason}")
            told.append(Told("error", shapes.error(self._build, None, failure, event.at)))
        end = {"status": state, "reason": reason, "build_duration": shapes.duration(event.at - self._submitted_at)}
        return [*told, Told("end", {key: value for key, value in end.items() if value is not None})]

    # ------------------------------------------------------------------------------------------------- a vertex
    def _routed(self, event: Event) -> list[Told]:
        if event.node is not None and self._vertices.find(event.node) == event.node:
            self._vertices.route(event.node, event.data["label"])
        return []

    def _retried(self, event: Event) -> list[Told]:
        vertex = self._vertices.find(event.node or "")
        return [] if vertex is None else [self._void(vertex)]

    def _waiting(self, event: Event) -> list[Told]:
        vertex, data = self._vertices.find(event.node or ""), event.data
        if vertex is None or data["reason"] not in ("approval", "decision"):
            return []
        return [Told("human_input_required", shapes.question(vertex, event.node or vertex, data))]

    def _node_ended(self, event: Event, vertex: str) -> list[Told]:
        state, data = ENDS[event.type], event.data or {}
        if state in (NodeState.UPSTREAM_FAILED, NodeState.CANCELLED) or (
            state is NodeState.SKIPPED and self._vertices.has_ended(vertex)
        ):
            return []  # it has not run: the end of another vertex told so, or the end of the build does
        turn = self._vertices.end(vertex, state, event.at)
        told: list[Told] = []
        speaker = self._speakers.get(self._vertices.node(vertex).task)
        message = None
        if state is NodeState.FAILED:
            self._has_failed = True
            told.append(Told("error", shapes.error(self._build, vertex, data["error"], event.at)))
        elif state is NodeState.SUCCEEDED and speaker is not None:
            message = shapes.message(self._build, vertex, speaker, data.get("value"), event.at)
            told.append(Told("add_message", message))
        built = shapes.built(vertex, turn, state, data, message=message, at=event.at)
        return [*told, Told("end_vertex", {"build_data": built})]

    # --------------------------------------------------------------------------------------------- while it runs
    def _news(self, event: Event, vertex: str) -> list[Told]:
        """Return what a task said while it ran, in a vertex or below it."""
        if event.type == "token":
            return [Told("token", shapes.token(self._stream_of(vertex), event.data))]
        if event.type == "node_started" or (event.is_durable and event.type != "state"):
            return []  # the engine's own record of what it does
        return [Told("log", shapes.log(vertex, event))]

    def _void(self, vertex: str) -> Told:
        return Told("remove_message", {"id": self._stream_of(vertex)})

    def _stream_of(self, vertex: str) -> str:
        """Return the id of the message that a vertex streams: of the chat output behind it, else one of its own."""
        if self._vertices.node(vertex).task not in self._speakers:
            for follower in self._vertices.followers(vertex):
                if self._speakers.get(self._vertices.node(follower).task) is Speaker.MACHINE:
                    return shapes.message_id(self._build.job_id, follower)
        return shapes.message_id(self._build.job_id, vertex)
