"""Waits: sleeps, approvals, decisions, and attempts that are due later. None of them holds a slot.

While anything else of the job runs, its waits lie here and end here. When they are all that is left the run ends too
(see `Waits.may_pause`); whoever claims the job when a wait is over goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from millstream.clock import Timer
from millstream.errors import TaskError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import Failure, record_failure
from millstream.model.job import Decision

if TYPE_CHECKING:
    from millstream.engine.run import Run

SHORT_SECONDS = 1.0
"""A wait that is over this soon is waited for in place: to lay the job down and take it up again costs more."""

_AGAIN_SECONDS = 0.25
"""After so long at the soonest it is looked again whether a conducting flow can be laid down that could not before."""

Kind = Literal["timer", "approval", "decision", "handed_out"]


class Wait:
    """One open wait.

    Attributes:
        kind: What it waits for.
        frame: The frame of the node that waits.
        until: When it is over, where time ends it; seconds since the epoch, UTC.
        end: Takes the answer (`None` from time), and returns the nodes that may start.
        timer: Rings when the time is over.
    """

    __slots__ = ("end", "frame", "kind", "timer", "until")

    def __init__(
        self, kind: Kind, frame: Frame, end: Callable[[Any], Sequence[Place]], until: float | None = None
    ) -> None:
        """Take what there is to know; the timer comes later."""
        self.kind = kind
        self.frame = frame
        self.end = end
        self.until = until
        self.timer: Timer | None = None


class Waits:
    """The open waits of one run, by the paths of their nodes."""

    __slots__ = ("_linger", "_open", "_run")

    def __init__(self, run: Run) -> None:
        """Start with none."""
        self._run = run
        self._open: dict[str, Wait] = {}
        self._linger: Timer | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    # -------------------------------------------------------------------------------------------------- beginning
    def for_time(self, frame: Frame, index: int, until: float) -> Sequence[Place]:
        """Let a node succeed at a time."""
        run, name = self._run, frame.name(index)
        known = run.past.waits.pop(name, None) if run.past is not None else None
        if known is None:
            run.put((True, "waiting", run.now(), name, {"reason": "timer", "until": until}))
        else:
            until = known["until"]
        return self._begin(name, Wait("timer", frame, lambda _: run.succeeded(frame, index, None, 0), until))

    def for_retry(self, frame: Frame, index: int, until: float) -> Sequence[Place]:
        """Let a node's next attempt start at a time."""
        again = [(frame, index)]
        return self._begin(frame.name(index), Wait("timer", frame, lambda _: self._run.gate.after(again), until))

    def for_answer(self, frame: Frame, index: int, question: Any) -> Sequence[Place]:
        """Let a node succeed with the answer that somebody gives."""
        run = self._run
        wait = Wait("approval", frame, lambda value: run.succeeded(frame, index, value, 0))
        return self._ask(frame.name(index), wait, {"reason": "approval", "question": question})

    def for_decision(self, frame: Frame, index: int, attempt: int, failure: Failure | None) -> Sequence[Place]:
        """Let somebody decide what became of an attempt that must not be repeated unknowingly."""
        run, name, asked = self._run, frame.name(index), {"reason": "decision", "attempt": attempt, "error": failure}
        if run.is_side:
            return run.leave(frame, index, (True, "waiting", run.now(), name, run.seal(asked)))
        wait = Wait("decision", frame, lambda value: self._decided(frame, index, attempt, value))
        return self._ask(name, wait, asked)

    def for_others(self, frame: Frame, index: int, end: Callable[[Any], Sequence[Place]]) -> None:
        """Wait until others have executed a node."""
        self._begin(frame.name(index), Wait("handed_out", frame, end))

    def for_known_decision(self, frame: Frame, index: int, attempt: int) -> Sequence[Place]:
        """Wait for the decision that whoever executed the node has asked for."""
        wait = Wait("decision", frame, lambda value: self._decided(frame, index, attempt, value))
        return self._begin(frame.name(index), wait)

    def _ask(self, name: str, wait: Wait, data: dict[str, Any]) -> Sequence[Place]:
        past = self._run.past
        asked = past.waits.pop(name, None) if past is not None else None  # the record speaks of one wait, not the next
        if past is not None and name in past.answers:
            return wait.end(past.answers.pop(name))
        if asked is None:
            self._run.put((True, "waiting", self._run.now(), name, self._run.seal(data)))
        return self._begin(name, wait)

    def _decided(self, frame: Frame, index: int, attempt: int, decision: Any) -> Sequence[Place]:
        run = self._run
        match decision:
            case Decision("repeat"):
                run.attempts[frame, index] = attempt + 1
                return [(frame, index)]
            case Decision("done", value):
                return run.succeeded(frame, index, value, attempt)
            case _:
                failure = record_failure(TaskError("it was decided that it failed"), frame.name(index))
                return run.ended_badly(frame, index, failure, attempt)

    def _begin(self, name: str, wait: Wait) -> Sequence[Place]:
        run = self._run
        if wait.until is not None and (run.services.is_eager or wait.until <= run.now()):
            return wait.end(None)
        self._open[name] = wait
        clock = self._run.services.clock
        if wait.until is not None:
            wait.timer = clock.call_later(wait.until - self._run.now(), partial(self._ring, name))
        if self._run.calls.bodies and self._linger is None:
            self._linger = clock.call_later(self._run.services.linger, self._look)
        return ()

    # ------------------------------------------------------------------------------------------------------ ending
    def answer(self, path: str, value: Any) -> bool:
        """End a wait; return whether there was one at that path."""
        wait = self._open.pop(path, None)
        if wait is None:
            return False
        if wait.timer is not None:
            wait.timer.cancel()
        self._run.release(wait.end(value))
        return True

    def _ring(self, name: str) -> None:
        self.answer(name, None)

    def out(self, inside: Collection[Frame]) -> list[str]:
        """Return the paths of the nodes in these frames that others execute."""
        return [name for name, wait in self._open.items() if wait.kind == "handed_out" and wait.frame in inside]

    def forget(self, inside: Collection[Frame]) -> None:
        """Drop the waits of these frames."""
        for name in [name for name, wait in self._open.items() if wait.frame in inside]:
            self._drop(name)

    def close(self) -> None:
        """Drop all."""
        for name in list(self._open):
            self._drop(name)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _drop(self, name: str) -> None:
        wait = self._open.pop(name)
        if wait.timer is not None:
            wait.timer.cancel()

    # ----------------------------------------------------------------------------------------------------- pausing
    def may_pause(self) -> bool:
        """Whether the run may end until a wait is over: none of them is over soon."""
        handing = self._run.handing
        if handing is not None and handing.is_open and not handing.has_lingered:
            return False
        _, until = self.next()
        return bool(self._open) and (until is None or until - self._run.now() > SHORT_SECONDS)

    def next(self) -> tuple[Kind, float | None]:
        """Return what is waited for, others first, then people, and when the first of the times is over."""
        kinds = {wait.kind for wait in self._open.values()}
        times = [wait.until for wait in self._open.values() if wait.until is not None]
        order: tuple[Kind, ...] = ("handed_out", "decision", "approval", "timer")
        return next((kind for kind in order if kind in kinds), "timer"), min(times, default=None)

    def _look(self) -> None:
        """A conducting flow has lingered: end the run where nothing but waits is left in it."""
        self._linger = None
        if self._run.is_idle and self.may_pause() and not self._run.calls.have_timers():
            self._run.pause()
        elif self._open:
            again = max(self._run.services.linger, _AGAIN_SECONDS)
            self._linger = self._run.services.clock.call_later(again, self._look)
