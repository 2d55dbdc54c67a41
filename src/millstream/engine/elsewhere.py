"""Attempts that are more than awaiting a coroutine: threads, pool processes, drawings, maps, time-outs, the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from millstream.clock import Timer
from millstream.engine.asked import request_of
from millstream.engine.attempt import Attempt, run_calls
from millstream.engine.context import running
from millstream.engine.deadline import Deadline
from millstream.engine.node_call import NodeCall
from millstream.engine.program import Drawn, Growth, Mode
from millstream.engine.scope import Call, ItemScope
from millstream.engine.wire import Order, Raised, Said
from millstream.errors import DefinitionError, PoisonError, ProcessDiedError, TaskTimeoutError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.event import Draft
from millstream.model.failure import record_failure
from millstream.model.job import NodeState
from millstream.model.policy import Policy
from millstream.points import reach

if TYPE_CHECKING:
    from millstream.engine.run import Run


def open_map(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    """Put a map's items in its node's place."""
    items = ItemScope(frame.content, index)
    return run.open(frame, index, "", items.count, items)


def start_thread(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    """Hand a plain function without conditions to the thread pool: the shortest way there."""
    number = run.attempt_of(frame, index)
    run.put((False, "node_started", run.now(), frame.name(index), None))
    try:
        fn, args = _plain_call(frame.content, index)
    except Exception as error:  # noqa: BLE001  an argument that is not there is the node's failure
        return run.failed(frame, index, record_failure(error, frame.name(index)), number)
    attempt = ThreadAttempt(run, frame, index, number)
    running.set(attempt)
    attempt.call = call = _PlainCall(fn, args, run, frame, index, number)
    run.hold()
    run.threads.add(call)
    reach("before-effect")
    run.services.threads.submit(call)
    return ()


def _plain_call(scope: Any, index: int) -> tuple[Callable[..., Any], Sequence[Any]]:
    """Return what to call, and with what: the function itself where its arguments are just other nodes' values."""
    program = scope.program
    source = program.sources[index]
    if source is not None:
        values = scope.values
        return program.fns[index], [values[i] for i in source]
    is_chunk = getattr(scope, "is_chunked", False)
    return run_calls, (program.fns[index], scope.calls(index), is_chunk)


async def await_calls(fn: Callable[..., Any], calls: list[Call], deadline: Deadline) -> list[Any]:
    """Await the calls of a chunk, one after the other; none is begun after the chunk was cancelled."""
    values: list[Any] = []
    for args, kwargs in calls:
        values.append(await fn(*args, **kwargs))
        if deadline.is_over:
            break
    return values


class ThreadAttempt(Attempt):
    """An attempt that runs in a thread of this process.

    Attributes:
        call: Its call.
    """

    __slots__ = ("call",)

    call: NodeCall

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop, or this attempt was given up."""
        return self.run.is_cancelled or self.call.is_abandoned

    def _put(self, draft: Draft) -> None:
        """Put an event into the job's log; an attempt that was given up says nothing any more."""
        if not self.call.is_abandoned:
            self.run.services.threads.say(partial(self.run.put, draft))


class _PlainCall(NodeCall):
    """A node's attempt in a thread, without conditions."""

    __slots__ = ("attempt",)

    def __init__(
        self, fn: Callable[..., Any], args: Sequence[Any], run: Run, frame: Frame, index: int, attempt: int
    ) -> None:
        super().__init__(fn, args, run, frame, index)
        self.attempt = attempt

    def done(self, error: BaseException | None, value: Any) -> None:
        """Take what the function raised or returned."""
        run, frame, index = self.run, self.frame, self.index
        run.threads.discard(self)
        if error is None:
            run.resume(run.succeeded(frame, index, value, self.attempt))
        else:
            run.resume(run.failed(frame, index, record_failure(error, frame.name(index)), self.attempt))


class _GuardedCall(NodeCall):
    """A node's attempt in a thread, under time-outs."""

    __slots__ = ("started", "timers")

    def __init__(self, started: Started, timers: list[Timer]) -> None:
        call = (started.fn, started.calls, started.is_chunk)
        super().__init__(run_calls, call, started.run, started.frame, started.index)
        self.started = started
        self.timers = timers

    def begin(self) -> None:
        """Let the time-outs run from now on."""
        self.started.run.services.threads.say(partial(self.started.arm, self))

    def done(self, error: BaseException | None, value: Any) -> None:
        """Take what the function raised or returned."""
        self.started.returned(self, error, value)

    def disarm(self) -> None:
        """Take the time-outs back."""
        for timer in self.timers:
            timer.cancel()


class Started:
    """An attempt under way.

    Args:
        run: Whose it is.
        frame: The node's frame.
        index: The node's index there.
        attempt: Which attempt it is, from 1.
        policy: The node's policy.
        calls: The arguments; several where a map's items share the attempt.
        key: Where its result goes in the cache.
    """

    __slots__ = (
        "attempt",
        "calls",
        "fn",
        "frame",
        "index",
        "is_chunk",
        "is_taken_back",
        "key",
        "name",
        "policy",
        "run",
    )

    def __init__(
        self, run: Run, frame: Frame, index: int, attempt: int, policy: Policy, calls: list[Call], key: str | None
    ) -> None:
        """Take everything; nothing has begun."""
        self.run = run
        self.frame = frame
        self.index = index
        self.attempt = attempt
        self.policy = policy
        self.calls = calls
        self.key = key
        self.fn = frame.content.program.fns[index]
        self.is_chunk = getattr(frame.content, "is_chunked", False)
        self.name = frame.name(index)
        self.is_taken_back = False

    def announce(self) -> bool:
        """Say that the attempt starts, and return whether it may: not before that is on disk, if it must run once."""
        run, is_once = self.run, self.policy.effect == "once"
        begun = (self.frame, self.index, self.attempt)
        if begun in run.begun:
            return True
        run.put((is_once, "node_started", run.now(), self.name, {"attempt": self.attempt}))
        if not is_once:
            return True
        run.begun.add(begun)
        return not run.is_kept

    def _deadline(self) -> float | None:
        return None if self.policy.timeout is None else self.run.now() + self.policy.timeout

    async def on_loop(self, mode: Mode, deadline: Deadline) -> Sequence[Place]:
        """Await it here, or for `run_in="loop"` call it here; a drawing becomes a frame."""
        running.set(Attempt(self.run, self.frame, self.index, self.attempt, self._deadline()))
        if mode is Mode.INLINE:
            return self._succeeded(run_calls(self.fn, self.calls, self.is_chunk))
        if mode is Mode.DRAW:
            return await self._drawn()
        work = await_calls(self.fn, self.calls, deadline) if self.is_chunk else self._await_one()
        if self.policy.timeout is None and self.policy.soft_timeout is None:
            return self._succeeded(await work)
        return self._succeeded(await deadline.run(work, self.policy.timeout, self.policy.soft_timeout))

    async def _drawn(self) -> Sequence[Place]:
        """Put what the flow draws in its node's place; its nodes wait until that is recorded."""
        hold = self.run.services.clock.hold()
        try:
            drawn: Drawn = await self._await_one()  # in a thread
        finally:
            hold.cancel()
        return self._expand(drawn)

    def _expand(self, drawn: Drawn) -> Sequence[Place]:
        run = self.run
        run.services.code.learn(drawn.works)
        told = {"graph": msgspec.json.encode(drawn.shape.graph), "bindings": list(drawn.bindings)}
        if run.is_side:
            data = run.seal({"nodes": drawn.shape.size, **told})
            return run.leave(self.frame, self.index, (True, "expanded", run.now(), self.name, data))
        return run.gate.after(run.expand(self.frame, self.index, "", drawn, told))

    def _grown(self, growth: Growth) -> Sequence[Place]:
        """Put what a bound task gave in its node's place: the task itself has come to its end."""
        run = self.run
        reach("after-effect")
        if run.has_revoked and (run.is_stopped or self.frame.state(self.index) >= NodeState.SUCCEEDED):
            return ()
        try:
            return self._expand(growth.draw(run.services.code.find))
        except Exception as error:  # noqa: BLE001  whatever is wrong with it, to run the task again would not mend it
            return run.ended_badly(self.frame, self.index, record_failure(error, self.name), self.attempt)

    async def _await_one(self) -> Any:
        ((args, kwargs),) = self.calls
        return await self.fn(*args, **kwargs)

    # ----------------------------------------------------------------------------------------------- threads
    def in_thread(self) -> None:
        """Hand it to the thread pool."""
        attempt = ThreadAttempt(self.run, self.frame, self.index, self.attempt, self._deadline())
        running.set(attempt)
        attempt.call = call = _GuardedCall(self, [])
        if self.policy.soft_timeout is not None:
            call.allow_interrupt()
        self.run.hold()
        self.run.threads.add(call)
        self.run.services.threads.submit(call)

    def returned(self, call: _GuardedCall, error: BaseException | None, value: Any) -> None:
        """Take what came back from a thread in time."""
        call.disarm()
        self.run.threads.discard(call)
        self.run.resume(self._succeeded(value) if error is None else self._failed(error))

    def arm(self, call: _GuardedCall) -> None:
        """Start the time-outs, now that a thread has taken the call."""
        if call not in self.run.threads:
            return
        later = self.run.services.clock.call_later
        if self.policy.soft_timeout is not None:
            call.timers.append(later(self.policy.soft_timeout, call.interrupt))
        if self.policy.timeout is not None:
            call.timers.append(later(self.policy.timeout, lambda: self._give_up(call)))

    def _give_up(self, call: _GuardedCall) -> None:
        """A thread cannot be killed: its result is dropped, and the node fails now."""
        if call in self.run.threads:
            call.disarm()
            self.run.threads.discard(call)
            self.run.services.threads.abandon(call)
            self.run.resume(self._failed(self._timeout()))

    # --------------------------------------------------------------------------------------------- processes
    def in_process(self) -> None:
        """Hand it to the process pool."""
        self.run.hold()
        self.run.group.start_soon(self._in_process)

    async def _in_process(self) -> None:
        order = Order(
            self.fn.__module__,
            self.fn.__qualname__,
            self.calls,
            self.frame.content.work(self.index).is_bound,
            self.is_chunk,
            request_of(self.run, self.frame, self.index, self.attempt, None),
            self._deadline(),
            self.policy.soft_timeout,
        )
        place = (self.frame, self.index)
        try:
            with anyio.CancelScope() as scope:
                self.run.scopes[place] = scope
                self.run.unbegun[place] = self
                if self.run.handing is not None:
                    self.run.handing.watch()
                answer = await self.run.services.processes.run(order, self._heard, partial(self._limit, scope))
        except ProcessDiedError as error:
            places = self._died(error)
        except Exception as error:  # noqa: BLE001  the node's failure, whatever it is
            places = self._failed(error)
        else:
            if scope.cancelled_caught:  # by the time-out, or because the node was taken back
                is_over = self.policy.timeout is not None and not self.is_taken_back
                places = self._failed(self._timeout()) if is_over else ()
            elif isinstance(answer, Raised) and answer.cancels:
                self.run.cancel_around()
                places = ()
            elif isinstance(answer, Raised):
                places = self.run.failed(self.frame, self.index, answer.failure, self.attempt)
            else:
                places = self._succeeded(answer.value)
        finally:
            del self.run.scopes[place]
            self.run.unbegun.pop(place, None)
        self.run.resume(places)

    def take_back(self) -> None:
        """Do not run it here, now that no process has taken it."""
        self.is_taken_back = True
        self.run.scopes[self.frame, self.index].cancel()

    def _died(self, error: ProcessDiedError) -> Sequence[Place]:
        """Take the death of its process, which in isolation is another try until it was one too many."""
        run, place = self.run, (self.frame, self.index)
        if run.isolation is None or self.policy.effect == "once":
            return self._failed(error)
        if not run.isolation.is_poison(place):
            return [place]
        poison = PoisonError(f"it killed {run.services.max_crashes} processes that ran it alone")
        return run.ended_badly(*place, record_failure(poison, self.name), self.attempt)

    def _limit(self, scope: anyio.CancelScope) -> Timer | None:
        """Start the hard time-out's timer, once the process has the order."""
        self.run.unbegun.pop((self.frame, self.index), None)
        if self.policy.timeout is None:
            return None
        return self.run.services.clock.call_later(self.policy.timeout, scope.cancel)

    def _heard(self, said: Said) -> None:
        data = self.run.seal(said.data) if said.is_durable else said.data
        self.run.put((said.is_durable, said.kind, self.run.now(), self.name, data))

    # ---------------------------------------------------------------------------------------------- how it ends
    def _timeout(self) -> TaskTimeoutError:
        return TaskTimeoutError(f"it ran longer than its timeout of {self.policy.timeout:g} s")

    def _succeeded(self, value: Any) -> Sequence[Place]:
        if isinstance(value, Growth):
            return self._grown(value)
        if self.is_chunk and any(isinstance(item, Growth) for item in value):
            return self._failed(DefinitionError("self.replace and self.add_to_chord need a map without chunk"))
        if self.key is not None and self.policy.cache_ttl is not None:
            self.run.services.cache.put(self.key, value, self.run.now() + self.policy.cache_ttl)
        return self.run.succeeded(self.frame, self.index, value, self.attempt)

    def _failed(self, error: BaseException) -> Sequence[Place]:
        return self.run.failed(self.frame, self.index, record_failure(error, self.name), self.attempt)
