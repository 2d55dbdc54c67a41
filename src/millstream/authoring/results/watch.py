"""What is known of one job's nodes. All results of a submission share one watch, which reads each event once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from millstream.authoring.results import states
from millstream.engine.program import Members
from millstream.errors import JobFailedError, JobNotFoundError, TaskRevokedError
from millstream.graph.shape import Shape
from millstream.model.event import START, TERMINAL, Event
from millstream.model.failure import Failure
from millstream.model.graph import (
    Arg,
    Failed,
    Keyed,
    Node,
    Packed,
    Result,
    Slot,
    arguments,
    pick,
    results_in,
)
from millstream.model.job import NodeResult, NodeState
from millstream.model.value import Reference

if TYPE_CHECKING:
    from millstream.authoring.current import App


class Standing(msgspec.Struct):
    """Where a node stands, or a whole job.

    Attributes:
        state: One of Celery's states, or the task's own: whatever it says, a label until it has ended.
        end: Which of Celery's states it came to; `None` while it has not ended.
        meta: What the task said with its own state, as it is shown: large values are references.
        said: Number of the event with which it said so; 0 where the state is not its own.
        retries: How often it was tried again.
        calls: Ids of the tasks that it submitted.
        ended_at: When it ended; seconds since the epoch, UTC.
        is_expired: Whether it ended since it had not started in time.
    """

    state: str = states.PENDING
    end: str | None = None
    meta: Any = None
    said: int = 0
    retries: int = 0
    calls: list[str] = []
    ended_at: float | None = None
    is_expired: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it stays as it is."""
        return self.end is not None

    @property
    def is_bad(self) -> bool:
        """Whether `get` raises."""
        return self.is_ready and self.state in states.RAISING_STATES

    @property
    def is_running(self) -> bool:
        """Whether an attempt runs."""
        return not self.is_ready and self.state not in {states.PENDING, states.RETRY}

    def ended_as(self, state: str) -> bool:
        """Return whether it has ended, and shows this state."""
        return self.is_ready and self.state == state

    def close(self, end: str, at: float) -> None:
        """Take its end. What was ignored after it had said a state of its own stays as it said."""
        if end != states.IGNORED or not self.said:
            self.state, self.meta, self.said = end, None, 0
        self.end, self.ended_at = end, at


class Watch:
    """Follows one job. Its coroutines run on one loop of the app, so that no two change it at once.

    Args:
        app: The app.
        job_id: The job.

    Attributes:
        job_id: The job.
        job: Where it stands as a whole.
        process: Id of the process that took it up last.
        ended: Paths of the nodes that have ended, in the order in which they did.
    """

    def __init__(self, app: App, job_id: str) -> None:
        """Know nothing yet."""
        self._app = app
        self._cursor = START
        self._size = 0
        self._nodes: dict[str, Standing] = {}
        self._results: dict[str, NodeResult] = {}
        self._graph: tuple[Shape, Sequence[Any]] | None = None
        self.job_id = job_id
        self.job = Standing()
        self.process: str | None = None
        self.ended: list[str] = []

    # --------------------------------------------------------------------------------------------------- looking
    def standing(self, node: str | None) -> Standing:
        """Return where a node stands, by its path; without one, the job as a whole.

        A node without an end of its own has come to the same as its job once that is over.

        Raises:
            JobNotFoundError: The job succeeded, and never had such a node.
        """
        if node is None:
            return self.job
        known = self._nodes.get(node)
        if not self.job.is_ready or (known is not None and known.is_ready):
            return known or (self.job if self._size == 1 else Standing())  # which starts with its only node
        if self.job.end in {states.SUCCESS, states.IGNORED}:
            raise JobNotFoundError(f"job {self.job_id} has no node {node!r}")
        return self.job

    async def refresh(self) -> None:
        """Take in what has happened by now; waits for nothing.

        Raises:
            JobNotFoundError: There is no such job (any more).
        """
        if not self.job.is_ready:
            for event in await self._app.known(self.job_id, self._cursor):
                self._take(event)

    async def follow(self, until: Callable[[], bool]) -> None:
        """Take in what happens until a condition holds, or the job has ended; `refresh` first.

        Raises:
            JobNotFoundError: There is no such job (any more).
        """
        if until() or self.job.is_ready:
            return
        async with aclosing(self._app.read_events(self.job_id, self._cursor)) as events:
            async for event in events:
                self._take(event)
                if until():
                    return
        if not self.job.is_ready:
            raise JobNotFoundError(f"job {self.job_id} was forgotten while it was waited for")

    async def settle(self, nodes: Collection[str | None]) -> None:
        """Where these nodes have ended, wait a second at most for the job to be over, as it mostly soon is."""
        with suppress(JobNotFoundError), anyio.move_on_after(1.0):
            await self.refresh()
            if all(self.standing(node).is_ready for node in nodes):
                await self.follow(lambda: self.job.is_ready)

    async def graph(self) -> tuple[Shape, Sequence[Any]]:
        """Return the job's graph, compiled, and the values of its slots."""
        if self._graph is None:
            graph, bindings = await self._app.graph(self.job_id)
            self._graph = Shape(graph), bindings
        return self._graph

    async def call(self, node: str) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return what a node of the graph itself is called with; `None` while, or where, that is not known."""
        shape, bindings = await self.graph()
        graph = shape.graph
        if node not in shape.index_of:
            return None
        found = graph.nodes[shape.index_of[node]]
        sources = [graph.nodes[index].id for arg in arguments(found) for index in results_in(arg)]
        if any(self.standing(source).end != states.SUCCESS for source in sources):
            return None
        values = dict(zip(sources, await self.outcomes(sources), strict=True))

        def given(arg: Arg) -> Any:
            match arg:
                case Slot(index, path):
                    return pick(bindings[index], path)
                case Result(index, path):
                    return pick(values[graph.nodes[index].id], path)
                case Packed(kind, items):
                    return (list if kind == "list" else tuple)(given(item) for item in items)
                case Keyed(keys, items):
                    return {key: given(item) for key, item in zip(keys, items, strict=True)}
                case Failed():  # what failed before an errback is no result
                    return None

        return tuple(given(arg) for arg in found.args), {name: given(arg) for name, arg in found.kwargs}

    async def after(self, node: str) -> list[str]:
        """Return the tasks of the graph itself that come directly behind a node; what waits or joins is no task."""
        shape, _ = await self.graph()
        nodes = shape.graph.nodes
        trail = [shape.index_of[node]] if node in shape.index_of else []
        found: dict[str, None] = {}
        for source in trail:
            for index in (*shape.fast[source], *(target for target, _ in shape.slow[source])):
                if not _is_internal(nodes[index]):
                    found[nodes[index].id] = None
                elif index not in trail:
                    trail.append(index)
        return list(found)

    async def only_node(self, node: str | None) -> str | None:
        """Return a node, or in place of the whole job its only one, if it has no more."""
        if node is None:
            nodes = (await self.graph())[0].graph.nodes
            return nodes[0].id if len(nodes) == 1 else None
        return node

    # -------------------------------------------------------------------------------------------- what it came to
    async def outcomes(self, nodes: Collection[str | None]) -> list[Any]:
        """Return what nodes that have ended came to: their values, or the exceptions that `get` raises.

        It costs one read, however many they are.
        """
        missing = {node for node in nodes if node is not None} - self._results.keys()
        if len(missing) > 1:
            found = await self._app.outcomes(self.job_id)
            self._results |= {node: found[node] for node in missing if node in found}
        elif missing:
            (node,) = missing
            result = await self._app.node_result(self.job_id, node)
            if result is not None:
                self._results[node] = result
        return [await self._outcome(node) for node in nodes]

    async def meta(self, node: str | None) -> Any:
        """Return what a task said with its own state, whole."""
        standing = self.standing(node)
        if isinstance(standing.meta, Reference):
            standing.meta = (await self._app.data(self.job_id, standing.said))["meta"]
        return standing.meta

    async def failure(self, node: str | None) -> Failure | None:
        """Return what failed a node that has ended, or what came before it; or what failed the job."""
        known = self._results.get(node or "")
        if known is not None and known.error is not None:
            return known.error
        if node is not None and await self._is_upstream(node):
            for culprit in await self._culprits(node):
                result = await self._app.node_result(self.job_id, culprit)
                if result is not None and result.error is not None:
                    self._results[node] = NodeResult(node, NodeState.UPSTREAM_FAILED, 0, error=result.error)
                    return result.error
        return (await self._app.record(self.job_id)).error

    async def _outcome(self, node: str | None) -> Any:
        standing = self.standing(node)
        if standing.end == states.IGNORED:
            meta = await self.meta(node)
            return _said_error(self._name(node), standing.state, meta) if standing.is_bad else meta
        if standing.end == states.REVOKED:
            why = "had not started before it expired" if standing.is_expired else "was cancelled"
            return TaskRevokedError(f"{self._name(node)} {why}")
        if standing.is_bad:
            failure = await self.failure(node)
            return JobFailedError(f"{self._name(node)} failed") if failure is None else failure.to_error()
        value = (await self._app.record(self.job_id)).result if node is None else self._results[node].value
        return value.own if isinstance(value, Members) else value

    async def _is_upstream(self, node: str) -> bool:
        result = self._results.get(node) or await self._app.node_result(self.job_id, node)
        return result is not None and result.state is NodeState.UPSTREAM_FAILED

    async def _culprits(self, node: str) -> list[str]:
        """Return the nodes before this one that failed, the nearest first."""
        shape, _ = await self.graph()
        trail = [shape.index_of[node]] if node in shape.index_of else []
        for index in trail:
            before = (source for source, _ in shape.before[index])
            trail += [source for source in before if source not in trail and self._has_failed(shape, source)]
        return [shape.graph.nodes[index].id for index in trail[1:]]

    def _has_failed(self, shape: Shape, index: int) -> bool:
        return self.standing(shape.graph.nodes[index].id).end in states.RAISING_STATES

    def _name(self, node: str | None) -> str:
        return self.job_id if node is None else f"{self.job_id}.{node}"

    # -------------------------------------------------------------------------------------------------- taking in
    def _take(self, event: Event) -> None:
        """Take an event, unless another coroutine has taken it meanwhile."""
        if event.cursor <= self._cursor:
            return
        self._cursor = event.cursor
        if event.node is None:
            self._take_of_job(event)
            return
        known = self._nodes.setdefault(event.node, Standing())
        if known.is_ready:
            return
        if event.type in states.OF_ENDS:
            known.close(_end_of(event), event.at)
            known.is_expired = known.end == states.REVOKED and event.type == "node_failed"
            self.ended.append(event.node)
            return
        _take_in(known, event)
        if self._size == 1:
            _take_in(self.job, event)

    def _take_of_job(self, event: Event) -> None:
        match event.type:
            case "planned":
                self._size = event.data["nodes"]
            case "started":
                self.job.state, self.process = states.STARTED, event.data["process"]
            case _ if event.type == TERMINAL:
                told = event.data
                end = states.OF_REASONS.get(told["reason"], states.OF_JOBS[told["state"]])
                only = self._nodes[self.ended[0]].end if self._size == len(self.ended) == 1 else None
                self.job.is_expired = told["reason"] == "expired"
                self.job.close(states.IGNORED if only == states.IGNORED else end, event.at)


def _is_internal(node: Node) -> bool:
    """Whether the canvas itself put a node there, to wait, to join members, or to tell an errback what failed."""
    return node.kind == "sleep" or node.task.startswith("millstream.authoring.")


def _take_in(known: Standing, event: Event) -> None:
    """Let what is known of a node follow from an event."""
    match event.type:
        case "node_started":
            known.state, known.meta, known.said = states.STARTED, None, 0
        case "node_retried":
            known.state, known.meta, known.said = states.RETRY, None, 0
            known.retries += 1
        case "state":
            known.state, known.meta, known.said = event.data["state"], event.data["meta"], event.seq
        case "called":
            known.calls.append(event.data["id"])


def _end_of(event: Event) -> str:
    """Return the state that a node's end brings."""
    error = (event.data or {}).get("error")
    kinds = error.ancestors if isinstance(error, Failure) else ()
    said = (states.OF_FAILURES[kind] for kind in kinds if kind in states.OF_FAILURES)
    return next(said, states.OF_ENDS[event.type])


def _said_error(name: str, state: str, meta: Any) -> Exception:
    """Return what `get` raises of a task that told of its own failure, and then asked to be ignored."""
    kind = TaskRevokedError if state == states.REVOKED else JobFailedError
    return kind(f"{name} was ignored after it had said {state}: {meta!r}")
