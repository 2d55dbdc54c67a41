"""The state of one segment while it runs here, and what each end of a node leads to.

`Run` owns the plan, the ready queue and the values. It does not know where code runs: `runner` (coroutines),
`elsewhere` (threads, processes, drawings, maps) and `control` (routers, loops, waits) call it when something ended.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio

from millstream.clock import Timer
from millstream.engine import control, runner
from millstream.engine.deadline import Deadline
from millstream.engine.elsewhere import NodeCall
from millstream.engine.priority import PriorityQueue
from millstream.engine.program import Drawn
from millstream.engine.retry import delay_before
from millstream.engine.revoke import revoke
from millstream.engine.scope import ItemScope, Scope
from millstream.engine.services import Services, Sink
from millstream.errors import DefinitionError, JobFailedError, MillstreamError
from millstream.graph.frame import Frame, GraphFrame
from millstream.graph.plan import Place, Plan, Steps
from millstream.graph.shape import Shape
from millstream.model.failure import Failure, record_failure
from millstream.model.job import JobState, NodeState

MAX_RUNNERS = 10_000
"""Coroutines of one job that may be awaited at once."""

MAX_DEPTH = 100
"""How deep flows, maps and loops may be nested in each other; a flow that calls itself without end stops here."""

_SKIP = "millstream.errors:Skip"


class StalledError(MillstreamError):
    """Raised when nodes are left but nothing runs that could release them: a defect of millstream."""


class Run:
    """One segment's run.

    Args:
        job_id: Id of the job.
        drawn: The job's graph with values and code.
        created_at: When the job was submitted.
        services: What the process's runs share.
        sink: Takes what happens.
    """

    def __init__(self, job_id: str, drawn: Drawn, created_at: float, services: Services, sink: Sink) -> None:
        """Prepare; nothing runs before `drive`."""
        self.job_id = job_id
        self.created_at = created_at
        self.services = services
        self.put = sink.put
        self.flush = sink.flush
        self.now = services.clock.now
        self.is_cancelled = False
        self.failure: Failure | None = None
        self.result: Any = None
        program = services.programs.get(drawn.shape, drawn.works)
        self.plan = Plan(drawn.shape, self._settle)
        self.plan.root.content = Scope(program, drawn.bindings)
        self.ready: deque[Place] | PriorityQueue = PriorityQueue() if program.is_prioritised else deque()
        self.chains = not program.is_prioritised
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.group: anyio.abc.TaskGroup
        self.spare = 0
        self.running = 0
        self.waits: dict[str, Place] = {}
        self.threads: set[NodeCall] = set()
        self.timers: dict[Timer, Frame] = {}
        self.scopes: dict[Place, anyio.CancelScope] = {}
        self.deadlines: set[Deadline] = set()
        self.has_revoked = False
        self.attempts: dict[Place, int] = {}
        self._failures: dict[str, Failure] = {}
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._elsewhere = 0
        self._parked: asyncio.Future[None] | None = None

    async def drive(self) -> JobState:
        """Run every node, and return how the job ends.

        Cancelling (`cancel`) ends it as cancelled, once every coroutine is really gone.

        Raises:
            StalledError: Nodes are left, but nothing runs that could release them.
        """
        try:
            async with anyio.create_task_group() as self.group:
                if self.is_cancelled:
                    self.group.cancel_scope.cancel()
                self.ready.extend(self.plan.start().ready)
                await runner.work(self, is_host=True)
        except asyncio.CancelledError:
            if not self.is_cancelled or _is_cancelled_here():
                raise  # else a task's own came out in the place of the one that `cancel` sent
        finally:
            is_done = self.plan.is_done
            if not is_done:
                self._cancel_nodes()
        outcome = self.plan.outcome() if is_done else JobState.CANCELLED
        # A failure that comes of being cancelled is no failure; a success that came first stands.
        return JobState.CANCELLED if self.is_cancelled and outcome is JobState.FAILED else outcome

    def cancel(self) -> None:
        """Stop everything that runs; results that still come from threads are dropped."""
        self.is_cancelled = True
        if hasattr(self, "group"):
            self.group.cancel_scope.cancel()

    # -------------------------------------------------------------------------------- what ended, and what follows
    def attempt_of(self, frame: Frame, index: int) -> int:
        """Return which attempt a node is in, from 1."""
        return self.attempts.get((frame, index), 1) if self.attempts else 1

    def succeeded(
        self, frame: Frame, index: int, value: Any, attempt: int, label: str | None = None
    ) -> Sequence[Place]:
        """Take a node's value, and return the nodes that may start; `label` is what a router chose."""
        if self.has_revoked and frame.state(index) >= NodeState.SUCCEEDED:
            return ()
        frame.content.values[index] = value
        self.put((True, "node_succeeded", self.now(), frame.name(index), {"attempt": attempt, "value": value}))
        ready = frame.advance(index)
        if ready is None:
            return self.follow(self.plan.ended(frame, index, NodeState.SUCCEEDED, label))
        if not frame.todo:
            return [*((frame, i) for i in ready), *self.follow(self.plan.close(frame))]
        return [(frame, i) for i in ready]

    def failed(self, frame: Frame, index: int, failure: Failure, attempt: int) -> Sequence[Place]:
        """Take what an attempt raised: another attempt, a skip, or the end of the node."""
        if self.has_revoked and frame.state(index) >= NodeState.SUCCEEDED:
            return ()
        if _SKIP in failure.ancestors:
            return self._skipped(frame, index, failure.message, attempt)
        policy = frame.content.policy(index)
        delay = delay_before(policy, attempt, failure) if policy and not self.is_cancelled else None
        if delay is None:
            return self.ended_badly(frame, index, failure, attempt)
        return self._retry(frame, index, failure, attempt, delay)

    def _retry(self, frame: Frame, index: int, failure: Failure, attempt: int, delay: float) -> Sequence[Place]:
        self.attempts[frame, index] = attempt + 1
        data = {"attempt": attempt, "error": failure, "delay": delay}
        self.put((True, "node_retried", self.now(), frame.name(index), data))
        if not delay:
            return [(frame, index)]
        self.later(frame, delay, lambda: [(frame, index)])
        return ()

    def ended_badly(self, frame: Frame, index: int, failure: Failure, attempt: int) -> Sequence[Place]:
        """Take the failure that ends a node."""
        name = frame.name(index)
        self._failures[name] = failure
        self.put((True, "node_failed", self.now(), name, {"attempt": attempt, "error": failure}))
        return self.follow(self.plan.ended(frame, index, NodeState.FAILED))

    def _skipped(self, frame: Frame, index: int, why: str, attempt: int) -> Sequence[Place]:
        data = {"attempt": attempt, "message": why}
        self.put((True, "node_skipped", self.now(), frame.name(index), data))
        return self.follow(self.plan.ended(frame, index, NodeState.SKIPPED))

    def follow(self, steps: Steps) -> list[Place]:
        """Carry out what the planner said, and return the nodes that may start."""
        places = steps.ready
        for frame, index, how in steps.ended:
            self.put((True, f"node_{how.label}", self.now(), frame.name(index), None))
        for frame in steps.closed:
            if frame.parent is not None and not frame.ends_its_node:
                places.extend(self._turned_or_answered(frame))
        return places

    def expand(self, frame: Frame, index: int, key: str, drawn: Drawn) -> list[Place]:
        """Put a graph in a node's place, and return its nodes that may start."""
        program = self.services.programs.get(drawn.shape, drawn.works)
        return self.open(frame, index, key, program.shape, Scope(program, drawn.bindings))

    def open(self, frame: Frame, index: int, key: str, inside: Shape | int, scope: Scope | ItemScope) -> list[Place]:
        """Put a frame in a node's place, and return its nodes that may start.

        Raises:
            DefinitionError: Frames would be nested too deep.
        """
        if frame.depth >= MAX_DEPTH:
            raise DefinitionError(
                f"flows are nested over {MAX_DEPTH} deep at node {frame.node(index).id}; does one call itself?"
            )
        size = inside if isinstance(inside, int) else inside.size
        if isinstance(scope, Scope) and scope.program.is_prioritised and self.chains:
            waiting, self.ready = self.ready, PriorityQueue()
            while waiting:
                self.ready.extend([waiting.popleft()])
            self.chains = False
        self.put((True, "expanded", self.now(), frame.name(index) + key, {"nodes": size}))
        _, steps = self.plan.expand(frame, index, key, inside, scope)
        return self.follow(steps)

    def call(self, place: Place, key: str, drawn: Drawn) -> asyncio.Future[Any]:
        """Run a graph as a recorded call of a conducting flow, and return the future of its result."""
        frame, index = place
        future = self.loop.create_future()
        if frame.state(index) >= NodeState.SUCCEEDED:
            future.cancel()  # a body that was taken back, and took no notice
            return future
        self._calls[frame.name(index) + key] = future
        self.release(self.expand(frame, index, key, drawn))
        return future

    def revoke_call(self, place: Place, key: str) -> None:
        """Take back a recorded call that has not ended."""
        frame, index = place
        path = frame.name(index) + key
        future = self._calls.pop(path, None)
        if future is not None:
            future.cancel()
            if path in self.plan.frames:
                revoke(self, self.plan.frames[path])

    def revoke_calls(self, place: Place) -> None:
        """Take back all recorded calls of a conducting flow that have not ended."""
        frame, index = place
        for child in frame.children.get(index, ()):
            self.revoke_call(place, child.path.removeprefix(frame.name(index)))

    # ------------------------------------------------------------------------------------------ closed frames
    def _settle(self, frame: Frame) -> NodeState:
        """Decide how the node ends that a frame stands for, and keep its value or failure."""
        state = frame.outcome()
        failure = self._culprit(frame) if state is NodeState.FAILED else None
        value = None
        if state is NodeState.SUCCEEDED:
            try:
                value = frame.content.result()
            except LookupError as error:
                failure = record_failure(error, frame.path)
        if frame.parent is None:
            self.result, self.failure = value, failure
        else:
            self._settle_parent(frame.parent, frame.index, value, failure)
        return NodeState.FAILED if failure else state

    def _settle_parent(self, parent: Frame, index: int, value: Any, failure: Failure | None) -> None:
        name, attempt = parent.name(index), self.attempt_of(parent, index)
        if failure is None:
            parent.content.values[index] = value
            self.put((True, "node_succeeded", self.now(), name, {"attempt": attempt, "value": value}))
        else:
            self._failures[name] = failure
            self.put((True, "node_failed", self.now(), name, {"attempt": attempt, "error": failure}))

    def _turned_or_answered(self, frame: Frame) -> Iterable[Place]:
        """A loop's turn or a recorded call is over."""
        state = frame.outcome()
        failure = self._culprit(frame) if state is NodeState.FAILED else None
        future = self._calls.pop(frame.path, None)
        if future is None:
            return control.turned(self, frame, failure)
        if not future.done():
            if failure is not None:
                future.set_exception(failure.to_error())
            else:
                _answer(future, frame)
        return ()

    def _culprit(self, frame: Frame) -> Failure:
        """Return the failure that failed a frame: of the deciding nodes' failed ancestors the first."""
        for index in _suspects(frame):
            failure = self._failures.get(frame.name(index))
            if failure is not None:
                return failure
        return record_failure(JobFailedError(f"{frame.path or 'the job'} failed without a failed node"))

    # --------------------------------------------------------------------------------------- parking and waking
    def hold(self) -> None:
        """Note that something outside the runners will call `resume` later."""
        self._elsewhere += 1

    def later(self, frame: Frame, seconds: float, act: Callable[[], Sequence[Place]]) -> None:
        """Call `act` after a time and release what it returns; not if the run ends before, or the frame is revoked."""

        def fire() -> None:
            del self.timers[timer]
            self.resume(act())

        self.hold()
        timer = self.services.clock.call_later(seconds, fire)
        self.timers[timer] = frame

    def resume(self, places: Sequence[Place]) -> None:
        """Take what followed from something outside the runners (see `hold`)."""
        self._elsewhere -= 1
        self.release(places)

    def release(self, places: Sequence[Place]) -> None:
        """Hand nodes that may start to a runner: the parked one, else a new one."""
        self.ready.extend(places)
        if self._parked is not None:
            if places or self.plan.is_done or not self._elsewhere:
                self.wake()
        elif places:
            self.spawn()

    def spawn(self) -> None:
        """Start a spare runner, unless there is one or there are too many."""
        if not self.spare and self.running < MAX_RUNNERS and not self.group.cancel_scope.cancel_called:
            self.spare += 1
            self.group.start_soon(runner.work, self)

    async def park(self) -> None:
        """Wait until something is ready, or the plan is done.

        Raises:
            StalledError: Nothing can ever become ready.
        """
        # Where all is cancelled the others may just be gone first.
        if not self._elsewhere and self.running == 1 and not _is_cancelled_here():
            raise StalledError(f"job {self.job_id} has {self.plan.root.todo} nodes left, and nothing runs")
        self._parked = self.loop.create_future()
        try:
            await self._parked
        finally:
            self._parked = None

    def wake(self) -> None:
        """Wake the parked runner, if one is parked."""
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _cancel_nodes(self) -> None:
        for frame, index in self.plan.open_nodes():
            self.put((True, "node_cancelled", self.now(), frame.name(index), None))
        self.plan.cancel()
        self.waits.clear()
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        for call in self.threads:
            call.disarm()
            self.services.threads.abandon(call)
        self.threads.clear()
        for future in self._calls.values():
            future.cancel()


def _is_cancelled_here() -> bool:
    """Whether a cancel scope around this place is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


def _answer(future: asyncio.Future[Any], frame: Frame) -> None:
    try:
        future.set_result(frame.content.result())
    except LookupError as error:
        future.set_exception(error)


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
