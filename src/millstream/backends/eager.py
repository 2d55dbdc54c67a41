"""Eager execution: a job runs at once in the thread of whoever hands it in, and has ended when that returns.

The job takes the way that every job takes: it is submitted to a ledger, claimed, driven by the planner, recorded and
settled. But the ledger is in memory, the loop is a fresh one in this very thread, plain functions are called in this
thread too (so that they see its database transaction and its thread-locals), waits are over at once, and exceptions are
kept as they are. Time-outs hold for coroutines only: nobody is there to interrupt a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from msgspec.structs import asdict, replace

from millstream.clock import Clock, new_id
from millstream.engine.cache import MemoryCache
from millstream.engine.context import running
from millstream.engine.processes import ProcessPool
from millstream.engine.program import Program, Work
from millstream.engine.services import Programs, Services
from millstream.engine.threads import ThreadCall, ThreadPool
from millstream.errors import BlockingCallError
from millstream.events.memory import MemoryEventLog
from millstream.execution.library import Library
from millstream.execution.segment import Segments
from millstream.execution.submit import Order, Submitter
from millstream.graph.shape import Shape
from millstream.ledger.base import Claim, End, Pause, Recorded, Settlement
from millstream.ledger.memory import MemoryLedger
from millstream.model.event import TERMINAL, Draft
from millstream.model.failure import Failure
from millstream.model.graph import Graph
from millstream.model.job import JobRecord
from millstream.model.policy import Policy
from millstream.portal import loop_set_aside

_ELSEWHERE = ("process", "worker")


class EagerBackend:
    """Runs jobs one by one, each to its end, on whatever loop it is awaited on.

    A task of a job may have another job run meanwhile, on a loop of its own (see `portal.run_here`).

    Args:
        library: The code that can be executed.
        clock: The time.

    Attributes:
        ledger: The record of the jobs.
        log: Their events.
        segments: What is executed.
    """

    name = "eager"

    def __init__(self, library: Library, clock: Clock) -> None:
        """Start with no job."""
        self._raised = raised = _Raised()
        self.ledger = EagerLedger(clock, raised)
        self.log = MemoryEventLog()
        services = Services(
            clock=clock,
            threads=InlineThreads(1, clock),
            processes=ProcessPool(1, clock),  # never used: see InlinePrograms
            cache=MemoryCache(),
            programs=InlinePrograms(raised),
            code=library,
            is_eager=True,
        )
        self.segments = Segments(self.ledger, self.log, services, library)
        self._claims: list[Claim] = []
        holder = new_id()
        self._submitter = Submitter(lambda: holder, self.ledger, self.log, clock, self.segments, self)
        self._clock = clock

    async def run(self, order: Order) -> JobRecord:
        """Run a job to its end, and return it as it ended.

        Raises:
            BlockingCallError: It waits for an approval or a decision, which nobody can give.
        """
        job = await self._submitter.submit(order)
        try:
            end = await self.segments.execute(self._claims.pop())
        finally:
            self._raised.pop(job.id, None)
        if isinstance(end, Pause):
            await self.ledger.cancel(job.id, [(True, TERMINAL, self._clock.now(), None, {"state": "cancelled"})])
            raise BlockingCallError(
                f"{job.flow} waits for an answer ({end.reason}), which nobody can give to what runs eagerly; submit it"
            )
        return await self.ledger.get(job.id)

    # ------------------------------------------------------------------------------------------ as a `Dispatcher`
    def can_take(self) -> bool:
        """Whether a submit may claim for this process: always."""
        return True

    def take(self, claim: Claim) -> None:
        """Keep a claim for `run`, which is about to execute it."""
        self.segments.accept(claim)
        self._claims.append(claim)

    def wake(self) -> None:
        """Take no notice: nothing is ever queued here."""


class InlineThreads(ThreadPool):
    """Calls plain functions in the thread of the loop, at once, as in a thread that has no loop."""

    _said: list[Callable[[], None]]

    def submit(self, call: ThreadCall) -> None:
        """Run a call to its end; what it says meanwhile is done when it has ended."""
        former, self._said = getattr(self, "_said", []), []
        try:
            with loop_set_aside():
                error, value = call.execute()
        finally:
            said, self._said = self._said, former
        for act in said:
            act()
        call.done(error, value)

    def say(self, act: Callable[[], None]) -> None:
        """Have something done on the loop, after the call that says it."""
        self._said.append(act)

    def abandon(self, call: ThreadCall) -> None:
        """Drop a call's result."""
        call.is_abandoned = True


class InlinePrograms(Programs):
    """Programs whose tasks run in this thread, also those that want a process; what they raise is kept.

    Args:
        raised: Where it is kept.
    """

    def __init__(self, raised: _Raised) -> None:
        """Start with none."""
        super().__init__()
        self._raised = raised
        self._works: dict[str, _InlineWork] = {}

    def get(self, shape: Shape, works: Mapping[str, Work]) -> Program:
        """Return the program of a graph with this code; see `Programs.get`."""
        graph = _inline(shape.graph)
        return super().get(
            shape if graph == shape.graph else Shape(graph), {name: self._work(work) for name, work in works.items()}
        )

    def _work(self, work: Work) -> Work:
        known = self._works.get(work.name)
        if known is None or known.original is not work:
            known = self._works[work.name] = _InlineWork(work, self._raised)
        return known


class _InlineWork:
    """A task or flow in the form in which it runs here; as a `Work`.

    Attributes:
        original: The task or flow itself.
    """

    def __init__(self, work: Work, raised: _Raised) -> None:
        self.original = work
        self.name, self.version, self.form, self.is_bound = work.name, work.version, work.form, work.is_bound
        self.policy = _inline_policy(work.policy)
        self.fn = raised.by(work.fn)


class _Raised(dict[str, dict[str, BaseException]]):
    """The last exception that came out of each node, by the id of the job and the node's path."""

    def by(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that keeps what another one raises."""
        if not inspect.iscoroutinefunction(fn):

            @wraps(fn)
            def call(*args: Any, **kwargs: Any) -> Any:
                try:
                    value = fn(*args, **kwargs)
                except BaseException as error:
                    self._keep(error)
                    raise
                return self._awaited(value) if inspect.iscoroutine(value) else value

            return call

        @wraps(fn)
        async def wait(*args: Any, **kwargs: Any) -> Any:
            return await self._awaited(fn(*args, **kwargs))

        return wait

    async def _awaited(self, value: Awaitable[Any]) -> Any:
        try:
            return await value
        except BaseException as error:
            self._keep(error)
            raise

    def _keep(self, error: BaseException) -> None:
        here = running.get()
        if here is not None:
            self.setdefault(here.job_id, {})[here.node] = error


class EagerLedger(MemoryLedger):
    """Keeps failures with the exceptions themselves.

    Args:
        clock: As for `MemoryLedger`.
        raised: The exceptions that came out of nodes.
    """

    def __init__(self, clock: Clock, raised: _Raised) -> None:
        """Start empty."""
        super().__init__(clock)
        self._raised = raised

    def record(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded) -> None:
        """Record what happened; see `Ledger.record`."""
        job_id = claim.job.id
        told = [(*draft[:4], self._with_original(job_id, draft[4])) for draft in drafts]
        if isinstance(end, Settlement) and end.error is not None:
            end = replace(end, error=self._original(job_id, end.error))
        super().record(claim, told, end, done)

    def _with_original(self, job_id: str, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("error"), Failure):
            return {**data, "error": self._original(job_id, data["error"])}
        return data

    def _original(self, job_id: str, failure: Failure) -> Failure:
        error = self._raised.get(job_id, {}).get(failure.node or "")
        if error is None or str(error) != failure.message:
            return failure
        return _Original(**asdict(failure), original=error)


class _Original(Failure, frozen=True, kw_only=True):
    """A failure that has not left the process.

    Attributes:
        original: The exception itself.
    """

    original: BaseException

    def to_exception(self) -> BaseException:
        """Return the exception itself."""
        return self.original


def _inline(graph: Graph) -> Graph:
    """Return a graph whose nodes do not ask for another process."""
    nodes = (
        replace(node, policy=node.policy and _inline_policy(node.policy), body=node.body and _inline(node.body))
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _inline_policy(policy: Policy) -> Policy:
    return replace(policy, run_in="thread") if policy.run_in in _ELSEWHERE else policy
