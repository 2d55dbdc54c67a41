"""From a job's events to the events of a build, as clients of `/api/v1/build` know them. Pure.

What durable events give is a function of durable events alone: a job that is read again after a restart gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from millstream.graph.shape import Shape
from millstream.ledger.facts import ENDS
from millstream.model.component import Component
from millstream.model.event import TERMINAL, Event
from millstream.model.job import NodeState
from millstream.server.builds import shapes
from millstream.server.builds.shapes import Build, Speaker
from millstream.server.builds.vertices import Closed, Vertices

_CAN_STREAM = frozenset({"task", "flow", "loop"})
"""The kinds of nodes whose tasks may say something while they run."""

_NOT_RUN = frozenset({NodeState.UPSTREAM_FAILED, NodeState.CANCELLED})


class Told(NamedTuple):
    """One event of a build: its name, and what it says, which is plain JSON."""

    name: str
    data: dict[str, Any]


class Translator:
    """Translates the events of one job, in order; each event once.

    Args:
        build: The job.
        shape: Its compiled graph.
        components: What tasks are as components, by the tasks' names: which ports they have, and who chats by them.

    Example:
        >>> from millstream.model.graph import Graph, Node
        >>> build = Build("0199", "shop.greet", "0199")
        >>> translator = Translator(build, Shape(Graph((Node("greet", task="shop.greet"),))), {})
        >>> translator.take(Event(1, 0, "planned", 5.0, None, {"nodes": 1}))
        [Told(name='vertices_sorted', data={'ids': ['greet'], 'to_run': ['greet']})]
        >>> translator.take(Event(2, 0, "ended", 6.5, None, {"state": "cancelled", "reason": "cancel"}))
        [Told(name='end', data={'status': 'cancelled', 'reason': 'cancel', 'build_duration': 1.5})]
    """

    def __init__(self, build: Build, shape: Shape, components: Mapping[str, Component]) -> None:
        """Have nothing told yet."""
        self._build = build
        self._vertices = Vertices(shape, is_document=build.is_document)
        self._components = components
        self._values: dict[str, dict[str, Any]] = {}
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
        return event.type == "waiting" or (event.type in ENDS and self._node_of(event) is not None)

    def take(self, event: Event) -> list[Told]:
        """Return what an event gives, in order; often nothing."""
        known = self._by_type.get(event.type)
        if known is not None:
            return known(event)
        if event.type in ENDS:
            node = self._node_of(event)
            return [] if node is None else [*self._begun(), *self._node_ended(event, node)]
        return self._news(event)

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
        running = [node.id for node in self._vertices.running if node.kind in _CAN_STREAM]
        streams = dict.fromkeys(self._stream_of(found[0]) for node in running if (found := self._vertices.find(node)))
        return [*self._begun(), *(Told("remove_message", {"id": stream}) for stream in streams)]

    def _ended(self, event: Event) -> list[Told]:
        state, reason = event.data["state"], event.data.get("reason")
        told = []
        if state == "failed" and not self._has_failed:
            told.append(Told("error", shapes.error(self._build, None, shapes.failure(reason), event.at)))
        end = {"status": state, "reason": reason, "build_duration": shapes.duration(event.at - self._submitted_at)}
        return [*told, Told("end", {key: value for key, value in end.items() if value is not None})]

    # ------------------------------------------------------------------------------------------------- a vertex
    def _node_of(self, event: Event) -> str | None:
        """Return the node of the graph that an event is about; `None` where it is about what grew inside of one."""
        found = self._vertices.find(event.node or "")
        return event.node if found is not None and found[1] == event.node else None

    def _routed(self, event: Event) -> list[Told]:
        node = self._node_of(event)
        if node is not None:
            self._vertices.route(node, event.data["label"])
        return []

    def _retried(self, event: Event) -> list[Told]:
        found = self._vertices.find(event.node or "")
        return [] if found is None else [Told("remove_message", {"id": self._stream_of(found[0])})]

    def _waiting(self, event: Event) -> list[Told]:
        found, data = self._vertices.find(event.node or ""), event.data
        if found is None or data["reason"] not in ("approval", "decision"):
            return []
        return [Told("human_input_required", shapes.question(found[0], event.node or "", data))]

    def _node_ended(self, event: Event, node: str) -> list[Told]:
        state, data = ENDS[event.type], event.data or {}
        if state in _NOT_RUN:
            return []  # the end of another vertex told so, or the end of the build does
        closed = self._vertices.end(node, state, event.at)
        told: list[Told] = []
        found = self._vertices.find(node)
        if found is not None and (node == found[0] or found[0] not in self._values or state is NodeState.FAILED):
            self._values[found[0]] = data
        if state is NodeState.FAILED and found is not None:
            self._has_failed = True
            told.append(Told("error", shapes.error(self._build, found[0], shapes.failure_in(data), event.at)))
        for vertex in closed:
            told += self._closed(vertex, event.at)
        return told

    def _closed(self, closed: Closed, at: float) -> list[Told]:
        data = self._values.pop(closed.vertex, {})
        component = self._components.get(self._vertices.main(closed.vertex).task)
        speaker = None if component is None else shapes.speaker(component)
        told, message = [], None
        if speaker is not None and closed.is_valid and "value" in data:
            message = shapes.message(self._build, closed.vertex, speaker, data["value"], at)
            told.append(Told("add_message", message))
        built = shapes.built(closed, data, component, message=message, at=at)
        return [*told, Told("end_vertex", {"build_data": built})]

    # --------------------------------------------------------------------------------------------- while it runs
    def _news(self, event: Event) -> list[Told]:
        """Return what a task said while it ran, in a vertex or below it."""
        found = self._vertices.find(event.node or "")
        if found is None or event.type == "node_started" or (event.is_durable and event.type != "state"):
            return []  # the engine's own record of what it does
        if event.type == "token":
            return [Told("token", shapes.token(self._stream_of(found[0]), event.data))]
        return [Told("log", shapes.log(found[0], event))]

    def _stream_of(self, vertex: str) -> str:
        """Return the id of the message that a vertex streams: of the chat output behind it, else one of its own."""
        if not self._speaks(vertex):
            for follower in self._vertices.followers(vertex):
                if self._speaks(follower) is Speaker.MACHINE:
                    return shapes.message_id(self._build.job_id, follower)
        return shapes.message_id(self._build.job_id, vertex)

    def _speaks(self, vertex: str) -> Speaker | None:
        component = self._components.get(self._vertices.main(vertex).task)
        return None if component is None else shapes.speaker(component)
