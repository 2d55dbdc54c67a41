"""The state of one segment while it runs here, and what each end of a node leads to.

`Run` owns the plan, the ready queue and the values. It does not know where code runs: `runner` (coroutines),
`elsewhere` (threads, processes, drawings, maps), `control` (routers, loops) and `waits` (sleeps, approvals, decisions)
call it when something ended.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from millstream.engine import control, runner
from millstream.engine.again import try_again
from millstream.engine.asked import bring_failures
from millstream.engine.calls import Calls
from millstream.engine.culprit import culprit
from millstream.engine.deadline import Deadline, is_cancelled_here
from millstream.engine.elsewhere import Started
from millstream.engine.gate import Gate
from millstream.engine.handing import Handing
from millstream.engine.isolation import DEATHS_BEFORE_ISOLATION, Isolation
from millstream.engine.node_call import NodeCall
from millstream.engine.parking import Parking
from millstream.engine.past import Due, Past
from millstream.engine.priority import PriorityQueue
from millstream.engine.program import Drawn
from millstream.engine.retry import delay_before, is_outcome_unknown
from millstream.engine.scope import ItemScope, Scope
from millstream.engine.services import Services, Sink
from millstream.engine.side import SideScope
from millstream.engine.waits import Waits
from millstream.errors import DefinitionError, NotSerializableError, OutputTooLargeError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place, Plan, Steps
from millstream.graph.shape import Shape
from millstream.model.event import Draft
from millstream.model.failure import Failure, record_failure
from millstream.model.job import JobRecord, JobState, NodeState
from millstream.points import reach

MAX_RUNNERS = 10_000
"""Coroutines of one job that may be awaited at once."""

MAX_DEPTH = 100
"""How deep flows, maps and loops may be nested in each other; a flow that calls itself without end stops here."""

_SKIP = "millstream.errors:Skip"


class Run(Parking):
    """One segment's run.

    Args:
        job: The job.
        drawn: The job's graph with values and code; in a side segment, the nodes that were handed out.
        aliases: Task ids that were given, each with the path of its node.
        services: What the process's runs share.
        sink: Takes what happens.
        past: What the job's record says already.
        crashes: How many processes died in this segment. From the second on each node runs in a process of its own.
    """

    def __init__(
        self,
        job: JobRecord,
        drawn: Drawn | SideScope,
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
        self.end = sink.end
        self.seal = sink.seal
        self.past = past
        self.now = services.clock.now
        self.is_fresh = past is None and crashes < DEATHS_BEFORE_ISOLATION
        self.isolation = Isolation(crashes, services.max_crashes) if crashes >= DEATHS_BEFORE_ISOLATION else None
        self.gate = Gate(self, sink, is_open=job.durability != "full")
        self.is_kept = job.durability != "off"
        self.failure: Failure | None = None
        self.result: Any = None
        self.is_side = isinstance(drawn, SideScope)
        if isinstance(drawn, SideScope):
            content: Scope | SideScope = drawn
        else:
            content = Scope(services.programs.get(drawn.shape, drawn.works), drawn.bindings)
        program = content.program
        super().__init__(Plan(program.shape, self._settle), is_prioritised=program.is_prioritised)
        self.plan.root.content = content
        self.thread = threading.get_ident()
        self.waits = Waits(self)
        self.calls = Calls(self)
        self.begun: set[tuple[Frame, int, int]] = set()
        self.threads: set[NodeCall] = set()
        self.scopes: dict[Place, anyio.CancelScope] = {}
        self.unbegun: dict[Place, Started] = {}
        self.deadlines: set[Deadline] = set()
        self.attempts: dict[Place, int] = {}
        self.dues: dict[Place, Due] = {}
        self._failures: dict[str, Failure] = {}
        self.handing = Handing.of(self)
        self.on_rest: Callable[[bool], None] = lambda _: None
        for place, attempt in content.begun() if isinstance(content, SideScope) else ():
            self.attempts[self.plan.root, place] = attempt

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
            if self.handing is not None:
                self.handing.close()
            is_done = self.plan.is_done
            if not is_done:
                self._stop_nodes()
        if self._cancels_around and not (self.is_cancelled or self.is_stopped):
            raise asyncio.CancelledError
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

    def cancel_around(self) -> None:
        """Stop everything, and end as cancelled from outside: a task cancelled what it runs in."""
        self._cancels_around = True
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
        if not places and self.plan.is_done:
            self.end()
            return places
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
        self.put((True, "node_failed", self.now(), frame.name(index), {"attempt": attempt, "error": failure}))
        return self.gate.after(self.take_failure(frame, index, failure))

    def take_failure(self, frame: Frame, index: int, failure: Failure) -> Sequence[Place]:
        """Let the plan go on from a node's failure, whoever recorded it."""
        self._failures[frame.name(index)] = failure
        return self.follow(self.plan.ended(frame, index, NodeState.FAILED))

    def leave(self, frame: Frame, index: int, draft: Draft) -> Sequence[Place]:
        """Leave a node of a side segment to the main run, which goes on from what is recorded with this."""
        self.put(draft)
        return self.follow(self.plan.ended(frame, index, NodeState.CANCELLED))

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
        self,
        frame: Frame,
        index: int,
        key: str,
        drawn: Drawn,
        told: dict[str, Any] | None = None,
        *,
        is_recorded: bool = False,
    ) -> list[Place]:
        """Put a graph in a node's place, and return its nodes that may start; `told` is recorded with it."""
        program = self.services.programs.get(drawn.shape, drawn.works)
        scope = Scope(program, drawn.bindings)
        return self.open(frame, index, key, program.shape, scope, told, is_recorded=is_recorded)

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
        *,
        is_recorded: bool = False,
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
        if not is_recorded:
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

    def spawn(self) -> None:
        """Start a spare runner, unless there is one or there are too many."""
        if not self.spare and self.running < MAX_RUNNERS and not self.group.cancel_scope.cancel_called:
            self.spare += 1
            self.group.start_soon(runner.work, self)

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
