"""The recorded calls of conducting flows: what their bodies await, and what was noted for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any

from millstream.engine.program import Drawn
from millstream.engine.revoke import revoke
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import Failure
from millstream.model.job import NodeState
from millstream.model.value import fingerprint

if TYPE_CHECKING:
    from millstream.engine.run import Run


_QUIET_TURNS = 8
"""Turns of the loop in which a body that was answered asks for what follows, whatever it gathers its calls in."""


_AFTER_THE_RECORD = inf


class Calls:
    """The recorded calls of one run that have not ended, by their paths.

    Attributes:
        continued: Flows that began anew: how often, and with what arguments the last time.
        timers: Per body that runs, whether it waits for a time of its own.
    """

    __slots__ = ("_answers", "_ended", "_futures", "_open_notes", "_run", "_turns", "_untold", "continued", "timers")

    def __init__(self, run: Run) -> None:
        """Start with none."""
        self._run = run
        self._futures: dict[str, asyncio.Future[Any]] = {}
        self._untold: dict[str, asyncio.Future[Any]] = {}  # of calls that have ended, until their bodies hear of it
        self._open_notes = 0
        self._ended: list[tuple[float, int, Callable[[], None]]] = []
        self._answers = 0
        self._turns = 0
        self.continued = dict(run.past.continued) if run.past is not None else {}
        self.timers: set[Callable[[], bool]] = set()

    def call(self, place: Place, key: str, drawn: Drawn) -> asyncio.Future[Any]:
        """Run a graph as a recorded call of the flow at a place, and return the future of its result.

        Raises:
            RecordMismatchError: The record says that another call was made here.
        """
        run, (frame, index) = self._run, place
        future = run.loop.create_future()
        if frame.state(index) >= NodeState.SUCCEEDED or run.is_stopped:
            future.cancel()  # a body that was taken back, and took no notice
            return future
        path, node = frame.name(index) + key, drawn.shape.graph.nodes[0]
        name = node.task or node.kind
        arguments = fingerprint(list(drawn.bindings))
        if run.past is not None:
            run.past.check_call(path, name, arguments)
        self._futures[path] = future
        self._turns = 0
        places = run.expand(frame, index, key, drawn, {"call": name, "arguments": arguments})
        # What the call is given may have been noted just now: it must not run before that is recorded.
        run.release(run.gate.after(places) if self._open_notes else places)
        return future

    def answered(self, frame: Frame, failure: Failure | None) -> bool:
        """Answer the call that a frame stands for, when that is recorded; return whether it stands for one."""
        future = self._futures.pop(frame.path, None)
        if future is None:
            return False
        self._untold[frame.path] = future
        act = partial(self._tell, frame, failure)
        past, gate = self._run.past, self._run.gate
        recorded = None if past is None else past.ends.get(frame.name(0))
        act = partial(self._in_order, _AFTER_THE_RECORD if recorded is None else recorded.seq, act)
        if gate.is_open or recorded is not None:
            act()
        else:
            gate.then(act, is_pure=_is_pure(frame))
        return True

    def _tell(self, frame: Frame, failure: Failure | None) -> None:
        """Let the body that made a call go on with its result or its error, unless it has taken it back."""
        future = self._untold.pop(frame.path, None)
        if future is None or future.done():
            return
        if failure is not None:
            future.set_exception(failure.to_error())
            return
        try:
            future.set_result(frame.content.result())
        except LookupError as error:
            future.set_exception(error)

    def _in_order(self, seq: float, act: Callable[[], None]) -> None:
        """Answer calls one by one in the order of the record, also of one that is written just now.

        So a body hears of ends in the same turns whenever it runs, and a race has the winner that it had then.
        """
        self._answers += 1
        heappush(self._ended, (seq, self._answers, act))
        if seq < _AFTER_THE_RECORD:
            self._turns = 0  # more that the record knows may be on its way here
        if len(self._ended) == 1:
            self._run.hold()
            self._turns = 0
            self._run.loop.call_soon(self._look)

    def _look(self) -> None:
        """Answer the next one when the bodies have done what the last answer let them do."""
        self._turns += 1
        # A loop that has nothing else to do has done all that; where others keep it busy, some turns have to do.
        if self._turns > _QUIET_TURNS or not getattr(self._run.loop, "_ready", True):
            *_, act = heappop(self._ended)
            act()
            self._turns = 0
        if self._ended:
            self._run.loop.call_soon(self._look)
        else:
            self._run.resume(())

    def revoke(self, place: Place, key: str) -> None:
        """Take back a call that has not ended; of one that has, the body does not hear any more."""
        frame, index = place
        path = frame.name(index) + key
        untold = self._untold.pop(path, None)
        if untold is not None:
            untold.cancel()
        future = None if self._run.is_stopped else self._futures.pop(path, None)
        if future is not None:
            future.cancel()
            if path in self._run.plan.frames:
                revoke(self._run, self._run.plan.frames[path])

    def revoke_all(self, place: Place) -> None:
        """Take back all calls of the flow at a place, whose body is over."""
        frame, index = place
        for child in frame.children.get(index, ()):
            self.revoke(place, child.path.removeprefix(frame.name(index)))

    def begin_anew(self, place: Place, times: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note that a body begins anew with other arguments, and forget its calls so far.

        Raises:
            NotSerializableError: An argument cannot be written down.
        """
        run, (frame, index) = self._run, place
        data = run.seal({"times": times, "args": list(args), "kwargs": kwargs})
        self.revoke_all(place)
        self.continued[frame.name(index)] = times, args, kwargs
        run.put((True, "continued", run.now(), frame.name(index), data))
        run.plan.forget(frame, index)

    @property
    def bodies(self) -> int:
        """How many bodies of conducting flows run."""
        return len(self.timers)

    def have_timers(self) -> bool:
        """Whether a body waits for a time that no record knows of, as in `asyncio.timeout`: it must not be stopped."""
        return any(has_timer() for has_timer in self.timers)

    def note(self, path: str, make: Callable[[], Any]) -> Any:
        """Return a value that must be the same when a body runs again: what is recorded, else what `make` gives."""
        run = self._run
        value = make() if run.past is None else run.past.note(path, make)
        run.put((True, "noted", run.now(), path, {"value": value}))
        if not run.gate.is_open:
            self._open_notes += 1
            run.gate.then(self._noted)
        return value

    def _noted(self) -> None:
        self._open_notes -= 1

    def close(self) -> None:
        """Cancel whatever is awaited."""
        for future in (*self._futures.values(), *self._untold.values()):
            future.cancel()


def _is_pure(frame: Frame) -> bool:
    policy = frame.content.policy(0)
    return policy is not None and policy.effect == "pure"
