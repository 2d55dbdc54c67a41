"""Attempts that are more than awaiting a coroutine: threads, pool processes, drawings, maps, time-outs, the cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from millstream.clock import Timer
from millstream.engine.attempt import Attempt, run_calls
from millstream.engine.context import running
from millstream.engine.deadline import Deadline
from millstream.engine.program import Mode
from millstream.engine.scope import Call, ItemScope
from millstream.engine.threads import ThreadCall
from millstream.engine.wire import Order, Raised, Said
from millstream.errors import TaskTimeoutError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import record_failure
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.engine.run import Run


def open_map(run: Run, frame: Frame, index: int) -> Sequence[Place]:
    """Put a map's items in its node's place."""
    items = ItemScope(frame.content, index)
    return run.open(frame, index, "", items.count, items)


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

    __slots__ = ("attempt", "calls", "fn", "frame", "index", "is_chunk", "key", "name", "policy", "run")

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

    def announce(self) -> None:
        """Say that the attempt starts: durably where it must never be repeated unknowingly."""
        self.run.put((self.policy.effect == "once", "node_started", self.run.now(), self.name, {"attempt": self.attempt}))
        deadline = None if self.policy.timeout is None else self.run.now() + self.policy.timeout
        running.set(Attempt(self.run, self.frame, self.index, self.attempt, deadline))

    async def on_loop(self, mode: Mode, deadline: Deadline) -> Sequence[Place]:
        """Await it here, or for `run_in="loop"` call it here; a drawing becomes a frame."""
        if mode is Mode.INLINE:
            return self._succeeded(run_calls(self.fn, self.calls, is_chunk=self.is_chunk))
        work = self._await_all()
        if self.policy.timeout is None and self.policy.soft_timeout is None:
            value = await work
        else:
            value = await deadline.run(work, self.policy.timeout, self.policy.soft_timeout)
        if mode is Mode.DRAW:
            return self.run.expand(self.frame, self.index, "", value)
        return self._succeeded(value)

    async def _await_all(self) -> Any:
        values = [await self.fn(*args, **kwargs) for args, kwargs in self.calls]
        return values if self.is_chunk else values[0]

    # ----------------------------------------------------------------------------------------------- threads
    def in_thread(self) -> None:
        """Hand it to the thread pool."""
        timers: list[Timer] = []
        call = ThreadCall(partial(run_calls, self.fn, self.calls, is_chunk=self.is_chunk), partial(self._returned, timers))
        later = self.run.services.clock.call_later
        if self.policy.soft_timeout is not None:
            call.allow_interrupt()
            timers.append(later(self.policy.soft_timeout, call.interrupt))
        if self.policy.timeout is not None:
            timers.append(later(self.policy.timeout, lambda: self._give_up(call, timers)))
        self.run.hold()
        self.run.threads.add(call)
        self.run.services.threads.submit(call)

    def _returned(self, timers: list[Timer], call: ThreadCall, error: BaseException | None, value: Any) -> None:
        for timer in timers:
            timer.cancel()
        self.run.threads.discard(call)
        self.run.resume(self._succeeded(value) if error is None else self._failed(error))

    def _give_up(self, call: ThreadCall, timers: list[Timer]) -> None:
        """A thread cannot be killed: its result is dropped, and the node fails now."""
        if call not in self.run.threads:
            return
        for timer in timers:
            timer.cancel()
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
            self.is_chunk,
            self.run.job_id,
            self.name,
            self.attempt,
            None if self.policy.timeout is None else self.run.now() + self.policy.timeout,
            self.policy.soft_timeout,
        )
        try:
            with anyio.CancelScope() as scope:
                answer = await self.run.services.processes.run(order, self._heard, partial(self._limit, scope))
            if scope.cancelled_caught:
                raise self._timeout()
        except Exception as error:  # noqa: BLE001  the node's failure, whatever it is
            places = self._failed(error)
        else:
            places = (
                self.run.failed(self.frame, self.index, answer.failure, self.attempt)
                if isinstance(answer, Raised)
                else self._succeeded(answer.value)
            )
        self.run.resume(places)

    def _limit(self, scope: anyio.CancelScope) -> Timer | None:
        """Start the hard time-out's timer, once the process has the order."""
        if self.policy.timeout is None:
            return None
        return self.run.services.clock.call_later(self.policy.timeout, scope.cancel)

    def _heard(self, said: Said) -> None:
        self.run.put((False, said.kind, self.run.now(), self.name, said.data))

    # ---------------------------------------------------------------------------------------------- how it ends
    def _timeout(self) -> TaskTimeoutError:
        return TaskTimeoutError(f"it ran longer than its timeout of {self.policy.timeout:g} s")

    def _succeeded(self, value: Any) -> Sequence[Place]:
        if self.key is not None and self.policy.cache_ttl is not None:
            self.run.services.cache.put(self.key, value, self.run.now() + self.policy.cache_ttl)
        return self.run.succeeded(self.frame, self.index, value, self.attempt)

    def _failed(self, error: BaseException) -> Sequence[Place]:
        return self.run.failed(self.frame, self.index, record_failure(error, self.name), self.attempt)
