"""The recorded calls of conducting flows: what their bodies await, and what was noted for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.engine.program import Drawn
from millstream.engine.revoke import revoke
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import Failure
from millstream.model.job import NodeState

if TYPE_CHECKING:
    from millstream.engine.run import Run


class Calls:
    """The recorded calls of one run that have not ended, by their paths.

    Attributes:
        bodies: How many bodies of conducting flows run.
    """

    __slots__ = ("_futures", "_open_notes", "_run", "bodies")

    def __init__(self, run: Run) -> None:
        """Start with none."""
        self._run = run
        self._futures: dict[str, asyncio.Future[Any]] = {}
        self._open_notes = 0
        self.bodies = 0

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
        if run.past is not None:
            run.past.check_call(path, name)
        self._futures[path] = future
        places = run.expand(frame, index, key, drawn, {"call": name})
        # What the call is given may have been noted just now: it must not run before that is recorded.
        run.release(run.gate.after(places) if self._open_notes else places)
        return future

    def answered(self, frame: Frame, failure: Failure | None) -> bool:
        """Answer the call that a frame stands for, when that is recorded; return whether it stands for one."""
        future = self._futures.pop(frame.path, None)
        if future is None:
            return False
        if not (self._run.gate.is_open or _is_pure(frame)):
            self._run.gate.then(partial(_answer, future, frame, failure))
        else:
            _answer(future, frame, failure)
        return True

    def revoke(self, place: Place, key: str) -> None:
        """Take back a call that has not ended."""
        frame, index = place
        path = frame.name(index) + key
        future = None if self._run.is_stopped else self._futures.pop(path, None)
        if future is not None:
            future.cancel()
            if path in self._run.plan.frames:
                revoke(self._run, self._run.plan.frames[path])

    def revoke_all(self, place: Place) -> None:
        """Take back all calls of the flow at a place that have not ended."""
        frame, index = place
        for child in frame.children.get(index, ()):
            self.revoke(place, child.path.removeprefix(frame.name(index)))

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
        for future in self._futures.values():
            future.cancel()


def _answer(future: asyncio.Future[Any], frame: Frame, failure: Failure | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure.to_error())
        return
    try:
        future.set_result(frame.content.result())
    except LookupError as error:
        future.set_exception(error)


def _is_pure(frame: Frame) -> bool:
    policy = frame.content.policy(0)
    return policy is not None and policy.effect == "pure"
