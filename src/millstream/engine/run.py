"""The state of one segment while it runs here, and what each end of a node leads to.

`Run` owns the plan, the ready queue and the values. It does not know where code runs: `runner` (coroutines),
`elsewhere` (threads, processes, drawings, maps), `control` (routers, loops) and `waits` (sleeps, approvals, decisions)
call it when something ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio

from millstream.engine import control, runner
from millstream.engine.again import try_again
from millstream.engine.asked import bring_failures
from millstream.engine.calls import Calls
from millstream.engine.culprit import culprit
from millstream.engine.deadline import Deadline, is_cancelled_here
from millstream.engine.elsewhere import NodeCall
from millstream.engine.gate import Gate
from millstream.engine.isolation import DEATHS_BEFORE_ISOLATION, Isolation
from millstream.engine.past import Due, Past
from millstream.engine.priority import PriorityQueue
from millstream.engine.program import Drawn
from millstream.engine.retry import delay_before, is_outcome_unknown
from millstream.engine.scope import ItemScope, Scope
from millstream.engine.services import Services, Sink
from millstream.engine.waits import Kind, Waits
from millstream.errors import (
    DefinitionError,
    MillstreamError,
    NotSerializableError,
    OutputTooLargeError,
)
from millstream.graph.frame import Frame
from millstream.graph.plan import Place, Plan, Steps
from millstream.graph.shape import Shape
from millstream.model.failure import Failure, record_failure
from millstream.model.job import JobRecord, JobState, NodeState
from millstream.points import reach

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
        job: The job.
        drawn: The job's graph with values and code.
        aliases: Task ids that were given, each with the path of its node.
        services: What the process's runs share.
        sink: Takes what happens.
        past: What the job's record says already.
        crashes: How many processes died in this segment. From the second on each node runs in a process of its own.
    """

    def __init__(
        self,
        job: JobRecord,
        drawn: Drawn,
        aliases: Mapping[str, str],
        services: Services,
        sink: Sink,
        past: Past | None = None,
        crashes: int = 0,
    ) -> None:
        """Prepare; nothing runs before `drive`."""
        self.job_id = job.id
        self.job = job
        self.services = services
        self.given_ids = {node: task_id for task_id, node in aliases.items()}
        self.put = sink.put if past is None else past.unknown(sink.put)
        self.flush = sink.flush
        self.seal = sink.seal
        self.past = past
        self.now = services.clock.now
        self.is_fresh = past is None and crashes < DEATHS_BEFORE_ISOLATION
        self.isolation = Isolation(crashes, services.max_crashes) if crashes >= DEATHS_BEFORE_ISOLATION else None
        self.is_cancelled = self.is_stopped = False
        self.paused: tuple[Kind, float | None] | None = None
        self.gate = Gate(self, sink, is_open=job.durability != "full")
        self.is_kept = job.durability != "off"
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
        self.spare = self.running = 0
        self.waits = Waits(self)
        self.calls = Calls(self)
        self.begun: set[tuple[Frame, int, int]] = set()
        self.threads: set[NodeCall] = set()
        self.scopes: dict[Place, anyio.CancelScope] = {}
        self.deadlines: set[Deadline] = set()
        self.has_revoked = False
        self.attempts: dict[Place, int] = {}
        self.dues: dict[Place, Due] = {}
        self._failures: dict[str, Failure] = {}
        self._elsewhere = 0
        self._parked: asyncio.Future[None] | None = None
        self._is_over = False

    async def drive(self) -> JobState:
        """Run every node, and return how the job ends; `waiting` where all that is left are waits (see `waits`).

        Cancelling (`cancel`) ends it as cancelled, once every coroutine is really gone.

        Raises:
            StalledError: Nodes are left, but nothing runs that could release them.
        """
        try:
            async with anyio.create_task_group() as self.group:
                if self.is_cancelled or self.is_stopped:
                    self.group.cancel_scope.cancel()
                bring_failures(self, self.plan.root)
                self.ready.extend(self.plan.start().ready)
                await runner.work(self, is_host=True)
        except asyncio.CancelledError:
            if not (self.is_cancelled or self.is_stopped) or is_cancelled_here():
                self.is_stopped = self.is_stopped or (self.is_kept and is_cancelled_here())
                raise  # else a task's own came out in the place of the one that `cancel` sent
        finally:
            self._is_over = True
            is_done = self.plan.is_done
            if not is_done:
                self._stop_nodes()
        if not is_done:
            return JobState.CANCELLED if self.is_cancelled else JobState.WAITING
        outcome = self.plan.outcome()
        # A failure that comes of being cancelled is no failure; a success that came first stands.
        return JobState.CANCELLED if self.is_cancelled and outcome is JobState.FAILED else outcome

    def cancel(self) -> None:
        """Stop everything that runs, for good; results that still come from threads are dropped."""
        self.is_cancelled = True
        self._drop_threads()  # now: a function that sees the cancel may return before the runners do
        if hasattr(self, "group"):
            self.group.cancel_scope.cancel()

    def stop(self) -> None:
        """Stop everything that runs, and record nothing of it: another run goes on with the job."""
        self.is_stopped = self.has_revoked = True
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
        reach("after-effect")
        if self.has_revoked and (self.is_stopped or frame.state(index) >= NodeState.SUCCEEDED):
            return ()
        try:
            data = self.seal({"attempt": attempt, "value": value})
        except (NotSerializableError, OutputTooLargeError) as error:
            return self.ended_badly(frame, index, record_failure(error, frame.name(index)), attempt)
        self.put((True, "node_succeeded", self.now(), frame.name(index), data))
        places = self.advance(frame, index, value, label)
        if self.gate.is_open:
            return places
        policy = frame.content.policy(index)
        return self.gate.behind(places, is_pure=policy is not None and policy.effect == "pure")

    def advance(self, frame: Frame, index: int, value: Any, label: str | None = None) -> Sequence[Place]:
        """Let the plan go on from a node's value, whoever recorded it."""
        frame.content.values[index] = value
        ready = frame.advance(index)
        if ready is None:
            return self.follow(self.plan.ended(frame, index, NodeState.SUCCEEDED, label))
        if not frame.todo:
            return [*((frame, i) for i in ready), *self.follow(self.plan.close(frame))]
        return [(frame, i) for i in ready]

    def failed(self, frame: Frame, index: int, failure: Failure, attempt: int) -> Sequence[Place]:
        """Take what an attempt raised: another attempt, a skip, or the end of the node."""
        if self.has_revoked and (self.is_stopped or frame.state(index) >= NodeState.SUCCEEDED):
            return ()
        if _SKIP in failure.ancestors:
            return self.skipped(frame, index, failure.message, attempt)
        policy = frame.content.policy(index)
        if policy is None or self.is_cancelled:
            return self.ended_badly(frame, index, failure, attempt)
        if is_outcome_unknown(policy, failure):
            return self.waits.for_decision(frame, index, attempt, failure)
        delay = delay_before(policy, attempt, failure)
        if delay is None:
            return self.ended_badly(frame, index, failure, attempt)
        return try_again(self, frame, index, failure, attempt, delay)

    def ended_badly(self, frame: Frame, index: int, failure: Failure, attempt: int) -> Sequence[Place]:
        """Take the failure that ends a node."""
        name = frame.name(index)
        self._failures[name] = failure
        self.put((True, "node_failed", self.now(), name, {"attempt": attempt, "error": failure}))
        places = self.follow(self.plan.ended(frame, index, NodeState.FAILED))
        return self.gate.after(places)

    def skipped(self, frame: Frame, index: int, why: str, attempt: int) -> Sequence[Place]:
        """Take the end of a node that chose to be skipped."""
        data = {"attempt": attempt, "message": why}
        self.put((True, "node_skipped", self.now(), frame.name(index), data))
        places = self.follow(self.plan.ended(frame, index, NodeState.SKIPPED))
        return self.gate.after(places)

    def follow(self, steps: Steps) -> list[Place]:
        """Carry out what the planner said, and return the nodes that may start."""
        places = steps.ready
        for frame, index, how in steps.ended:
            self.put((True, f"node_{how.label}", self.now(), frame.name(index), None))
        for frame in steps.closed:
            reach("after-join")
            if frame.parent is not None and not frame.ends_its_node:
                places.extend(self._turned_or_answered(frame))
        return places

    def expand(
        self, frame: Frame, index: int, key: str, drawn: Drawn, told: dict[str, Any] | None = None
    ) -> list[Place]:
        """Put a graph in a node's place, and return its nodes that may start; `told` is recorded with it."""
        program = self.services.programs.get(drawn.shape, drawn.works)
        return self.open(frame, index, key, program.shape, Scope(program, drawn.bindings), told)

    def failure_of(self, path: str) -> Failure:
        """Return the failure of a node that failed."""
        return self._failures[path]

    def open(
        self,
        frame: Frame,
        index: int,
        key: str,
        inside: Shape | int,
        scope: Scope | ItemScope,
        told: dict[str, Any] | None = None,
    ) -> list[Place]:
        """Put a frame in a node's place, and return its nodes that may start.

        Raises:
            DefinitionError: Frames would be nested too deep.
            NotSerializableError: What is told of it cannot be written down.
        """
        if frame.depth >= MAX_DEPTH:
            raise DefinitionError(
                f"flows or replacements are nested over {MAX_DEPTH} deep at node {frame.node(index).id}: do they end?"
            )
        size = inside if isinstance(inside, int) else inside.size
        if isinstance(scope, Scope) and scope.program.is_prioritised and self.chains:
            waiting, self.ready = self.ready, PriorityQueue()
            while waiting:
                self.ready.extend([waiting.popleft()])
            self.chains = False
        data = {"nodes": size} if told is None else self.seal({"nodes": size, **told})
        self.put((True, "expanded", self.now(), frame.name(index) + key, data))
        child, steps = self.plan.expand(frame, index, key, inside, scope)
        bring_failures(self, child)
        return self.follow(steps)

    # ------------------------------------------------------------------------------------------ closed frames
    def _settle(self, frame: Frame) -> NodeState:
        """Decide how the node ends that a frame stands for, and keep its value or failure."""
        state = frame.outcome()
        failure = culprit(frame, self._failures) if state is NodeState.FAILED else None
        value = None
        if state is NodeState.SUCCEEDED:
            try:
                value = frame.content.result()
                if frame.parent is not None:
                    data = self.seal({"attempt": self.attempt_of(frame.parent, frame.index), "value": value})
                else:
                    self.seal({"value": value})
            except (LookupError, NotSerializableError, OutputTooLargeError) as error:
                failure = record_failure(error, frame.path)
        if frame.parent is None:
            self.result, self.failure = value, failure
        elif failure is not None:
            name, attempt = frame.parent.name(frame.index), self.attempt_of(frame.parent, frame.index)
            self._failures[name] = failure
            self.put((True, "node_failed", self.now(), name, {"attempt": attempt, "error": failure}))
        elif state is NodeState.SUCCEEDED:
            frame.parent.content.values[frame.index] = value
            self.put((True, "node_succeeded", self.now(), frame.parent.name(frame.index), data))
        return NodeState.FAILED if failure else state

    def _turned_or_answered(self, frame: Frame) -> Iterable[Place]:
        """A loop's turn or a recorded call is over."""
        state = frame.outcome()
        failure = culprit(frame, self._failures) if state is NodeState.FAILED else None
        if self.calls.answered(frame, failure):
            return ()
        return control.turned(self, frame, failure)

    # --------------------------------------------------------------------------------------- parking and waking
    def hold(self) -> None:
        """Note that something outside the runners will call `resume` later."""
        self._elsewhere += 1

    def resume(self, places: Sequence[Place]) -> None:
        """Take what followed from something outside the runners (see `hold`)."""
        self._elsewhere -= 1
        self.release(places)

    def release(self, places: Sequence[Place]) -> None:
        """Hand nodes that may start to a runner: the parked one, else a new one; to none when all is over."""
        if self._is_over:
            return
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

    async def park(self) -> bool:
        """Wait until something is ready, or the plan is done; return whether to go on, not to pause.

        Raises:
            StalledError: Nothing can ever become ready.
        """
        # Where all is cancelled the others may just be gone first.
        if not self._elsewhere and self.running == 1 and not is_cancelled_here():
            if not self.waits:
                raise StalledError(f"job {self.job_id} has {self.plan.root.todo} nodes left, and nothing runs")
            if self.waits.may_pause():
                self.paused = self.waits.next()
                self.is_stopped = True
                return False
        self._parked = self.loop.create_future()
        try:
            await self._parked
        finally:
            self._parked = None
        return True

    @property
    def is_over(self) -> bool:
        """Whether the run takes nothing more: it has ended, or is about to."""
        return self._is_over or self.is_stopped

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs but the bodies of conducting flows, which await what is recorded of them."""
        runners = self.running - (self._parked is not None)
        return not (self.ready or self._elsewhere or self.spare) and runners <= self.calls.bodies

    def pause(self) -> None:
        """End the run until a wait is over: bodies of conducting flows are stopped, and run again then."""
        self.paused = self.waits.next()
        self.stop()

    def wake(self) -> None:
        """Wake the parked runner, if one is parked."""
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _stop_nodes(self) -> None:
        """Let go of all that has not ended; said to have been cancelled unless another run goes on with it."""
        if not self.is_stopped:
            for frame, index in self.plan.open_nodes():
                self.put((True, "node_cancelled", self.now(), frame.name(index), None))
        self.plan.cancel()
        self.waits.close()
        self._drop_threads()
        self.calls.close()

    def _drop_threads(self) -> None:
        while self.threads:
            (call := self.threads.pop()).disarm()
            self.services.threads.abandon(call)
