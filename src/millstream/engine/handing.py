"""Handing out: nodes that other processes execute, in side segments, while this run stays the only planner.

Handed out are at once the nodes that a worker is to run (`run_in="worker"`), but for one that is all there is to do in
the worker that has the job, and those of a queue which this process does not serve; and under load plain functions and
process-run ones that wait here for a free thread or process. Costs decide how many go together; of cheap ones none go,
since here they are done before anybody else could take them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.clock import Timer
from millstream.engine.asked import request_of
from millstream.engine.past import End, drawn_in
from millstream.engine.program import Recalled
from millstream.engine.recall import take_end
from millstream.engine.services import HandOut
from millstream.engine.side import Given
from millstream.engine.spare import PACK_NODES, PACK_SECONDS, Spare
from millstream.errors import NotSerializableError, OutputTooLargeError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.event import Event
from millstream.model.failure import record_failure
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.engine.run import Run

_MOST_OPEN = 256
"""Side segments of one job that may be open at once; what is over waits until one has ended."""

_PER_MEMBER = 8
"""Into how many segments nodes of unknown cost are divided, times the number of processes."""

_OPEN_PER_MEMBER = 2
"""Segments that are enough for each process: nobody has to wait for the next."""

_GATHER_SECONDS = 0.1
"""How long nodes wait at most for others to go with them, while enough is out that nobody waits for them."""

_LOOK_SECONDS = 0.05
_REST_SECONDS = 0.01
_Kind = tuple[str | None, bool]


class Handing:
    """What one run has handed out.

    Args:
        run: Whose nodes they are.
        port: By what nodes are handed out; `None` where this process hands out none itself.
        out: The nodes that the record says are out, by path, each with its segment.
        last: The last segment that the record knows.
    """

    def __init__(self, run: Run, port: HandOut | None, out: dict[str, int], last: int) -> None:
        """Have nothing out but what the record says."""
        self._run = run
        self._port = port
        self._known = out
        self._last = last
        self._out: dict[str, int] = {}
        self._open: dict[int, set[str]] = {}
        self._extra: set[int] = set()
        self._pending: dict[_Kind, deque[Place]] = {}
        self._spare = Spare(run, self.cost, self.kind)
        self._flushing = self._resting = False
        self._gather: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._rest: Timer | asyncio.TimerHandle | None = None
        self.has_lingered = False

    @classmethod
    def of(cls, run: Run) -> Handing | None:
        """Return what a run needs to hand nodes out, or to await those that are out; `None` where it does neither."""
        port, past = run.services.hand_out, run.past
        if run.is_side or not run.is_kept or (port is None and (past is None or not past.out)):
            return None
        return cls(run, port, {} if past is None else past.out, 1 if past is None else past.last_segment)

    @property
    def is_open(self) -> bool:
        """Whether anything is out, or about to be."""
        return bool(self._out or any(self._pending.values()))

    @property
    def may_be_executed(self) -> bool:
        """Whether others may execute a node of the run this instant."""
        return bool(self._open or self._known)

    # ------------------------------------------------------------------------------------------------------ handing
    def take(self, frame: Frame, index: int) -> Sequence[Place] | None:
        """Hand a node out, with others of this turn of the loop, where it is not to run here; else return `None`."""
        port, policy = self._port, frame.content.policy(index)
        if port is None or frame.node(index).kind != "task":
            return None
        if port.takes(self._queue(policy)) and (policy.run_in != "worker" or self._is_at_home(frame, index)):
            return None
        self._pending.setdefault(self.kind((frame, index)), deque()).append((frame, index))
        self._run.waits.for_others(frame, index, partial(self._ended, frame, index))
        self._flush_soon()
        return ()

    def _is_at_home(self, frame: Frame, index: int) -> bool:
        """Whether a node for workers runs here, in one of them: it is all that there is to do, or has begun to."""
        run = self._run
        is_begun = (frame, index, run.attempt_of(frame, index)) in run.begun
        return is_begun or (run.has_no_other and not any(self._pending.values()))

    def _queue(self, policy: Policy) -> str | None:
        """Return the queue of a node: its own, else the job's."""
        own = None if self._port is None else self._port.queue(policy.queue)
        return self._run.job.queue if own is None else own

    def kind(self, place: Place) -> _Kind:
        """Return what nodes that go together have in common."""
        scope = place[0].content
        return self._queue(scope.policy(place[1])), getattr(scope, "is_chunked", False)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._run.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand out what is pending, but for what others may still go with: each end of a map's item releases one."""
        self._flushing = False
        if self._run.is_over or not any(self._pending.values()):
            return
        if self._gather is None:
            self._gather = self._run.loop.call_later(_GATHER_SECONDS, self._hand_all)
        if self._run.ready:
            self._flush_soon()
        elif len(self._open) <= _OPEN_PER_MEMBER * self._members or any(map(self._is_full, self._pending.values())):
            self._hand_all()

    def _is_full(self, places: deque[Place]) -> bool:
        """Whether nodes are enough for a side segment."""
        cost = self.cost(places[0]) or 0.0 if places else 0.0
        return len(places) >= PACK_NODES or len(places) * cost >= PACK_SECONDS

    def _hand_all(self) -> None:
        """Hand out all that is pending, as far as there is room."""
        if self._gather is not None:
            self._gather.cancel()
            self._gather = None
        if self._run.is_over:
            return
        for kind in list(self._pending):
            segments = max(self._members, _PER_MEMBER * self._members - len(self._open))
            most = min(PACK_NODES, -(-len(self._pending[kind]) // segments))
            while (places := self._pending[kind]) and len(self._open) < _MOST_OPEN:
                self._hand(kind, self._pack(places, most))
        self.watch()

    @property
    def _members(self) -> int:
        return 1 if self._port is None else max(1, self._port.members)

    def _pack(self, places: deque[Place], most: int) -> list[Place]:
        """Take nodes that go together: as many as cost what a side segment should, at least one."""
        pack, seconds = [places.popleft()], 0.0
        while places and len(pack) < most:
            seconds += self.cost(pack[-1]) or 0.0
            if seconds >= PACK_SECONDS:
                break
            pack.append(places.popleft())
        return pack

    def cost(self, place: Place) -> float | None:
        """Return what a node costs, in seconds; `None` where that is not known."""
        frame, index = place
        return None if self._port is None else self._port.cost(frame.content.work(index).name)

    def _hand(self, kind: _Kind, places: Iterable[Place]) -> list[int]:
        """Record that nodes are handed out together; return the numbers of their segments.

        Those that are too large together go in several. What cannot go alone either is the node's failure.
        """
        given: list[dict[str, Any]] = []
        refused: list[tuple[str, Exception]] = []
        for place in places:
            try:
                given.append(self._given(place).written())
            except Exception as error:  # noqa: BLE001  an argument that is not there is the node's failure
                refused.append((place[0].name(place[1]), error))
        segments, packs = [], [given]
        while packs:
            pack = packs.pop()
            try:
                segments += [self._put(kind[0], pack)] if pack else []
            except (NotSerializableError, OutputTooLargeError) as error:
                if len(pack) == 1:
                    refused.append((pack[0]["path"], error))
                else:
                    half = len(pack) // 2
                    packs += [pack[half:], pack[:half]]
        for path, why in refused:  # last: it may end the run, or revoke others of these
            self._run.waits.answer(path, why)
        return segments

    def _put(self, queue: str | None, given: list[dict[str, Any]]) -> int:
        """Record that nodes are handed out in one segment; return its number.

        Raises:
            NotSerializableError: Arguments of theirs cannot be written down.
            OutputTooLargeError: They are too large.
        """
        run, segment = self._run, self._last + 1
        sealed = run.seal({"segment": segment, "queue": queue, "nodes": given})
        run.put((True, "handed_out", run.now(), None, sealed))
        self._last = segment
        self._open[segment] = {node["path"] for node in given}
        self._out.update(dict.fromkeys(self._open[segment], segment))
        return segment

    def _given(self, place: Place) -> Given:
        run, (frame, index) = self._run, place
        scope, attempt = frame.content, run.attempt_of(frame, index)
        return Given(
            path=frame.name(index),
            task=frame.node(index).task,
            calls=scope.calls(index),
            is_chunk=getattr(scope, "is_chunked", False),
            attempt=attempt,
            policy=scope.policy(index),
            request=request_of(run, frame, index, attempt, None),
        )

    # --------------------------------------------------------------------------------------------------- coming back
    def recall(self, frame: Frame, index: int) -> bool:
        """Wait for a node where the record says that it is out; return whether it is."""
        path = frame.name(index)
        segment = self._known.pop(path, None)
        if segment is None:
            return False
        self._out[path] = segment
        self._open.setdefault(segment, set()).add(path)
        self._run.waits.for_others(frame, index, partial(self._ended, frame, index))
        self.watch()
        return True

    def awaits(self, event: Event) -> bool:
        """Whether an event says what became of a node that is out."""
        return is_coming_back(event) and (event.node in self._out or event.node in self._known)

    def heard(self, event: Event) -> None:
        """Take an event that is awaited, with its values whole."""
        path = event.node
        if path is None:
            return
        if path in self._out:
            self._run.waits.answer(path, event)
        elif path in self._known and self._run.past is not None:
            del self._known[path]  # not planned again yet: as if it had been in the record
            self._run.past.add(event)

    def _ended(self, frame: Frame, index: int, told: Event | Exception) -> Sequence[Place]:
        """Let the plan go on from what became of a node elsewhere; nothing of that is recorded again."""
        run, path = self._run, frame.name(index)
        self._leave(path)
        if isinstance(told, Exception):
            return run.ended_badly(frame, index, record_failure(told, path), run.attempt_of(frame, index))
        match told.type:
            case "expanded":
                try:
                    drawn = Recalled(*drawn_in(told), run.services.code.find)
                    return run.expand(frame, index, "", drawn, is_recorded=True)
                except Exception as error:  # noqa: BLE001  whatever is wrong with it, the task has come to its end
                    return run.ended_badly(frame, index, record_failure(error, path), run.attempt_of(frame, index))
            case "waiting":
                return run.waits.for_known_decision(frame, index, told.data["attempt"])
            case _:
                return take_end(run, frame, index, End.of(told, None))

    def _leave(self, path: str) -> None:
        """Take note that a node is not out any more; when a segment has none left there is room for another."""
        segment = self._out.pop(path, None)
        self._wake_up()
        if segment is None:
            return
        paths = self._open[segment]
        paths.discard(path)
        if not paths:
            del self._open[segment]
            self._extra.discard(segment)
            if any(self._pending.values()):
                self._flush_soon()

    def revoke(self, inside: Collection[Frame]) -> None:
        """Forget the nodes of these frames; a segment of which none is left is taken back."""
        for kind, places in self._pending.items():
            self._pending[kind] = deque(place for place in places if place[0] not in inside)
        for path in self._run.waits.out(inside):
            segment = self._out.get(path)
            self._leave(path)
            if segment is not None and segment not in self._open:
                self._run.put((True, "taken_back", self._run.now(), None, {"segment": segment}))

    # --------------------------------------------------------------------------------------------------------- resting
    def watch(self) -> None:
        """See whether the run has come to rest, and whether nodes wait here that others could execute."""
        later = self._run.loop.call_later  # by real time: it is about what runs here, not about what a job waits for
        if self._out and self._rest is None and not self._resting:
            self._rest = later(_REST_SECONDS, self._look_for_rest)
        if self._port is not None and self._look is None and (self._run.threads or self._run.unbegun):
            self._look = later(_LOOK_SECONDS, self._look_at_load)

    def _look_for_rest(self) -> None:
        """Give the slot back when only handed-out nodes are awaited, and lay the run down when that goes on."""
        self._rest = None
        run = self._run
        if run.is_over or not self._out:
            return
        if run.is_idle and self._gather is None:
            self._resting = True
            run.on_rest(self._resting)
            self._rest = run.services.clock.call_later(run.services.linger, self._linger_is_over)
        else:
            self._rest = run.loop.call_later(_LOOK_SECONDS, self._look_for_rest)

    def _linger_is_over(self) -> None:
        self._rest = None
        run = self._run
        if run.is_over or not self._resting:
            return
        self.has_lingered = self._gather is None
        if self.has_lingered and run.is_idle and run.waits.may_pause() and not run.calls.have_timers():
            run.pause()
        else:
            self._rest = run.loop.call_later(_LOOK_SECONDS, self._linger_is_over)

    def _wake_up(self) -> None:
        """Take the slot again, since the run goes on."""
        self.has_lingered = False
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._resting:
            self._resting = False
            self._run.on_rest(self._resting)
        self._run.loop.call_soon(self._watch_again)

    def _watch_again(self) -> None:
        if not self._run.is_over:
            self.watch()

    def close(self) -> None:
        """Take all timers back."""
        for timer in (self._gather, self._look, self._rest):
            if timer is not None:
                timer.cancel()
        self._gather = self._look = self._rest = None

    # ------------------------------------------------------------------------------------------------------ under load
    def _look_at_load(self) -> None:
        """Hand out what waits here for a free thread or process, where others can execute it too."""
        self._look = None
        run, port = self._run, self._port
        if run.is_over or port is None:
            return
        room = _OPEN_PER_MEMBER * port.members - len(self._extra) if port.members > 1 else 0
        while room > 0 and (pack := self._spare.take()):
            for frame, index in pack:
                run.waits.for_others(frame, index, partial(self._ended, frame, index))
            self._extra.update(self._hand(self.kind(pack[0]), pack))
            room -= 1
        self.watch()


_COMING_BACK = frozenset({"node_succeeded", "node_failed", "node_skipped", "expanded", "waiting"})


def is_coming_back(event: Event) -> bool:
    """Whether an event says what became of a node that was handed out."""
    match event.type:
        case "expanded":
            return "graph" in event.data
        case "waiting":
            return bool(event.data["reason"] == "decision")
        case kind:
            return kind in _COMING_BACK
