"""Executes one claimed segment: drive the planner, record, settle. Here alone an exception becomes a job's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from millstream.engine.deadline import is_cancelled_here
from millstream.engine.node_call import NodeCall
from millstream.engine.past import Past
from millstream.engine.program import Drawn, Recalled
from millstream.engine.run import Run
from millstream.engine.services import HandOut, Services
from millstream.engine.side import Given, SideScope, left_to_do
from millstream.errors import ExpiredError, MillstreamError, UnknownNameError
from millstream.events.base import EventLog
from millstream.execution.journal import Journal
from millstream.execution.library import Library
from millstream.execution.outcome import end_of, stopped
from millstream.execution.recorder import Recorder
from millstream.ledger.base import (
    MAIN,
    Claim,
    Done,
    End,
    FencedError,
    Ledger,
    LedgerUnavailableError,
    Pause,
    RefusedRecordError,
    Settlement,
)
from millstream.log import get_logger
from millstream.model.event import Draft, Event
from millstream.model.failure import Failure, record_failure
from millstream.model.job import JobRecord, JobState
from millstream.points import reach

_log = get_logger("millstream.execution")

_AT_ONCE = 100
_CODE_SECONDS = 30.0
"""How long a job lies that was drawn with code which is not here, before anybody, who may have it, tries again."""

_PAGE = 1000
_KEPT_DRAWINGS = 1000
"""Drawings of durable jobs that are kept until they are executed here; others are read from the ledger again."""

Key = tuple[str, int]
"""A segment: the id of its job, and its number there."""


@dataclass(slots=True)
class _Execution:
    """A segment that is executed here."""

    claim: Claim
    recorder: Recorder
    on_rest: Callable[[bool], None]
    run: Run | None = None
    given: list[Given] = field(default_factory=list)
    is_cancelled: bool = False
    is_stopped: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Segments:
    """Executes the segments of one process.

    Args:
        ledger: Where to record.
        log: Where to publish.
        services: What all runs share.
        library: The code that can be executed here.
        journal: Is told what is executed.
    """

    def __init__(
        self, ledger: Ledger, log: EventLog, services: Services, library: Library, journal: Journal | None = None
    ) -> None:
        """Start with nothing running."""
        self._ledger = ledger
        self._log = log
        self._services = services
        self._library = library
        self._journal = journal
        self._drawn: dict[str, tuple[Drawn, Mapping[str, str]]] = {}
        self._running: dict[Key, _Execution] = {}
        self._reads: set[asyncio.Task[None]] = set()
        self._unread: set[str] = set()

    # -------------------------------------------------------------------------------------------- what is kept
    def keep(self, job: JobRecord, drawn: Drawn, aliases: Mapping[str, str]) -> None:
        """Keep a submitted job's graph, values, code and aliases until it is executed here."""
        self._library.include(job.flow)
        self._library.learn(drawn.works)
        self._drawn[job.id] = drawn, aliases
        if job.durability != "off" and len(self._drawn) > _KEPT_DRAWINGS:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        for job_id in list(self._drawn)[: _KEPT_DRAWINGS // 2]:
            if not self.is_running(job_id):
                del self._drawn[job_id]

    def drop(self, job_id: str) -> None:
        """Forget what was kept of a job that will not be executed."""
        self._drawn.pop(job_id, None)

    def flows(self) -> set[str]:
        """Return the names of the flows and tasks whose jobs can be executed here."""
        return self._library.flows()

    def running(self, *, interactive: bool = False) -> set[str]:
        """Return the ids of the jobs of which a segment is executed here; on demand, of those that are interactive."""
        return {key[0] for key, one in self._running.items() if one.claim.job.is_interactive or not interactive}

    def is_running(self, job_id: str) -> bool:
        """Return whether a job's main segment is executed here."""
        return (job_id, MAIN) in self._running

    def seen(self, job_id: str, segment: int) -> int | None:
        """Return up to which event a segment that is executed here knows all of its job; `None` for any other."""
        execution = self._running.get((job_id, segment))
        return None if execution is None else execution.recorder.seen

    def sides(self) -> set[Key]:
        """Return the side segments that are executed here."""
        return {key for key in self._running if key[1] != MAIN}

    @property
    def hand_out(self) -> HandOut | None:
        """By what nodes are handed out here, if they are."""
        return self._services.hand_out

    def has_room(self) -> bool:
        """Return whether no call waits here for a free thread or process."""
        return not (self._services.threads.waiting or self._services.processes.waiting)

    def is_left_running(self, job_id: str) -> bool:
        """Return whether a plain function of a job that was stopped here is still in its thread."""
        calls = self._services.threads.left
        return any(isinstance(call, NodeCall) and call.job_id == job_id for call in calls)

    # ----------------------------------------------------------------------------------------- from the outside
    def cancel(self, job_id: str) -> None:
        """Stop for good the segments of a job that are executed here."""
        for execution in self._of(job_id):
            execution.is_cancelled = True
            if execution.run is not None:
                execution.run.cancel()

    def stop(self, job_id: str, segment: int | None = None) -> None:
        """Stop the segments of a job that are executed here, or one of them, and let others go on with it."""
        for execution in self._of(job_id):
            if segment in (None, execution.claim.segment):
                execution.is_stopped = True
                if execution.run is not None:
                    execution.run.stop()

    def _of(self, job_id: str) -> list[_Execution]:
        return [execution for key, execution in self._running.items() if key[0] == job_id]

    async def refresh(self, job_id: str) -> None:
        """Take in what others recorded of a job whose main segment is executed here; all of it reaches the log.

        Answers, and what became of nodes that were handed out, reach its run.

        Raises:
            LedgerUnavailableError: The ledger cannot be read.
        """
        execution = self._running.get((job_id, MAIN))
        if execution is None:
            return
        async with execution.reading:
            self._unread.discard(job_id)
            recorder = execution.recorder
            while events := await self._ledger.events(job_id, recorder.seen, _PAGE):
                self._publish(job_id, events)
                await self._tell(execution, events)
                if execution.run is None or execution.run.is_over:
                    return  # what it cannot take any more it has not seen: whoever goes on with the job will
                recorder.caught_up(events[-1].seq)
            recorder.caught_up(recorder.seen)

    async def _tell(self, execution: _Execution, events: Sequence[Event]) -> None:
        """Tell a run what others recorded, where it concerns it."""
        run = execution.run
        if run is None:
            return
        awaited = {event.seq for event in events if event.type == "answered" or _is_awaited(run, event)}
        if not awaited:
            return
        # What is shown of a value need not be the value: large ones are references, and those of classes are plain.
        whole = await self._ledger.history(execution.claim.job.id, min(awaited) - 1)
        for event in whole:
            if event.seq not in awaited or event.node is None:
                continue
            if event.type != "answered" and run.handing is not None:
                run.handing.heard(event)
            elif not run.waits.answer(event.node, event.data["answer"]) and run.past is not None:
                run.past.answers[event.node] = event.data["answer"]

    def _publish(self, job_id: str, events: list[Event]) -> None:
        drafts: list[Draft] = [(True, event.type, event.at, event.node, event.data) for event in events]
        self._log.append(job_id, events[0].seq, drafts)

    async def trim(self) -> None:
        """Forget ended jobs that are kept no longer, with their events."""
        for job_id in await self._ledger.trim():
            self._log.forget(job_id)

    # --------------------------------------------------------------------------------------------------- executing
    def accept(self, claim: Claim, on_rest: Callable[[bool], None] = lambda _: None) -> None:
        """Take a claim; from now on the job can be cancelled here, though it has not started.

        Args:
            claim: The claim.
            on_rest: Called with `True` when the segment begins to wait for nothing but nodes that others execute, and
                with `False` when it goes on.
        """
        job_id = claim.job.id
        on_fenced = partial(self.stop, job_id, claim.segment)
        on_news = partial(self._read_soon, job_id)
        recorder = Recorder(claim, self._ledger, self._log, on_fenced, on_news, self._journal)
        self._running[job_id, claim.segment] = _Execution(claim, recorder, on_rest)
        if self._journal is not None:
            self._journal.began(claim)

    async def execute(self, claim: Claim) -> End:
        """Execute a segment that was accepted to its end, or to where only waits are left; return which it was.

        When this coroutine is cancelled (the process stops) the segment is laid down for others to go on with. A job
        whose ledger ends with the process is settled as cancelled, reason `shutdown`.
        """
        job = claim.job
        reach("after-claim")
        execution, is_side = self._running[job.id, claim.segment], claim.segment != MAIN
        end: End = self._shutdown(job)
        instead: list[Draft] = []
        try:
            if not is_side:
                await self._fill_log(claim)
            end = await (self._drive_side if is_side else self._drive)(claim, execution)
        except asyncio.CancelledError:
            if not is_cancelled_here():  # a task cancelled what it runs in; others would meet the same
                end = Done(cancels=True) if is_side else Settlement(JobState.CANCELLED, "cancel")
                execution.recorder.end()  # that a node was cancelled is recorded together with why
            raise
        except LedgerUnavailableError as error:
            _log.warning("a job was handed back: the ledger cannot be read", job=job.id, flow=job.flow, why=str(error))
        except UnknownNameError as error:
            end = Pause("code", self._services.clock.now() + _CODE_SECONDS, 0)
            _log.warning("a job was handed back: its code is not known here", job=job.id, flow=job.flow, why=str(error))
        except Exception as error:  # noqa: BLE001  the last resort: whatever it is, the job ends with a stated outcome
            failure = record_failure(error)  # its plain traceback: a log must not show the values of variables
            _log.error("a segment failed outside of its tasks", job=job.id, flow=job.flow, trace=failure.traceback)
            end = Done() if is_side else Settlement(JobState.FAILED, "internal", error=failure)
            instead = self._failed(execution, failure)
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle(execution, end, instead)
            self._running.pop((job.id, claim.segment), None)
            if self._journal is not None:
                self._journal.left(claim)
        return end

    def _failed(self, execution: _Execution, failure: Failure) -> list[Draft]:
        """Return that the nodes of a side segment failed; those that ended before have done so."""
        now, data = self._services.clock.now(), {"attempt": 0, "error": failure}
        return [(True, "node_failed", now, node.path, data) for node in execution.given]

    async def give_up(self, ledger: Ledger, holder: str) -> None:
        """Settle every job of a ledger that ends with this process as cancelled, reason `shutdown`.

        So nobody waits for them in vain. For the end of a process, or of a loop that was closed under it.
        """
        claims = [execution.claim for execution in self._running.values() if execution.claim.job.durability == "off"]
        self._running.clear()
        while claims := claims or await ledger.claim(holder, _AT_ONCE):
            for claim in claims:
                self.drop(claim.job.id)
                recorder = Recorder(claim, ledger, self._log, lambda: None, lambda: None)
                execution = _Execution(claim, recorder, lambda _: None)
                await self._settle(execution, Settlement(JobState.CANCELLED, "shutdown"))
            claims = []

    @staticmethod
    def _shutdown(job: JobRecord) -> Settlement | Pause:
        if job.durability == "off":
            return Settlement(JobState.CANCELLED, "shutdown")
        return Pause("shutdown", 0.0, 0)

    async def _drive(self, claim: Claim, execution: _Execution) -> End:
        job, recorder = claim.job, execution.recorder
        if job.cancel_requested:
            return Settlement(JobState.CANCELLED, "cancel")
        if job.expires_at is not None and job.started_at is not None and job.started_at > job.expires_at:
            late = ExpiredError(f"it had not started {job.expires_at - job.created_at:g} s after its submission")
            return Settlement(JobState.FAILED, "expired", error=record_failure(late))
        past = Past(await self._ledger.history(job.id)) if claim.head > 1 else None
        kept = self._drawn.get(job.id)
        if kept is None:
            stored = await self._ledger.graph(job.id)
            kept = Recalled(stored.graph, stored.bindings, self._library.find), stored.aliases
        if not (is_cancelled := execution.is_cancelled) and past is not None and past.has_cancelled:
            is_cancelled = (await self._ledger.get(job.id)).cancel_requested  # by a side segment, since the claim
        if is_cancelled:
            return stopped(is_out=past is not None and bool(past.out))
        if execution.is_stopped:
            return self._shutdown(job)
        begun = {"attempt": claim.attempt, "process": claim.holder}
        recorder.begin((True, "started", self._services.clock.now(), None, begun))
        run = execution.run = Run(job, *kept, self._services, recorder, past, claim.crashes)
        run.on_rest = execution.on_rest
        state = await run.drive()
        if recorder.refusal is not None:
            raise recorder.refusal
        return end_of(run, state)

    async def _drive_side(self, claim: Claim, execution: _Execution) -> End:
        """Execute nodes that the main segment handed out, each on its own."""
        job, recorder = claim.job, execution.recorder
        if job.cancel_requested or claim.order is None:
            return Done()
        past = Past(await self._ledger.history(job.id)) if claim.attempt > 1 else None
        order = await self._ledger.event(job.id, claim.order)
        execution.given = given = left_to_do(order.data["nodes"], past)
        if execution.is_cancelled or not given:
            return Done()
        if execution.is_stopped:
            return self._shutdown(job)
        scope = SideScope(given, self._library.find)
        run = execution.run = Run(job, scope, {}, self._services, recorder, past, claim.crashes)
        state = await run.drive()
        if recorder.refusal is not None:
            raise recorder.refusal
        end = end_of(run, state)
        return end if isinstance(end, Pause) else Done()

    async def _settle(self, execution: _Execution, end: End, instead: Sequence[Draft] = ()) -> None:
        reach("before-settle" if isinstance(end, Settlement) else "before-pause")
        job, recorder = execution.claim.job, execution.recorder
        for draft in instead:
            recorder.put(draft)
        try:
            try:
                await recorder.finish(end, instead)
            except RefusedRecordError as error:
                failure = record_failure(error)
                if execution.claim.segment == MAIN:
                    end = Settlement(JobState.FAILED, "internal", error=failure)
                    await recorder.finish(end)
                else:
                    await recorder.finish(Done(), self._failed(execution, failure))
        except FencedError as error:
            is_expected = execution.claim.segment != MAIN  # its job has ended, or has taken it back
            tell = _log.debug if is_expected else _log.warning
            tell("a segment's end was refused; others may go on", job=job.id, flow=job.flow, why=str(error))
        else:
            if self._journal is not None and isinstance(end, Settlement):
                self._journal.settled(job, end, self._services.clock.now() - (job.started_at or job.created_at))
        if isinstance(end, Settlement):
            self.drop(job.id)
            reach("after-settle")

    # ----------------------------------------------------------------------------------------------- the event log
    async def _fill_log(self, claim: Claim) -> None:
        """Give the log what was recorded before, of a job that was executed elsewhere so far."""
        job_id = claim.job.id
        there = self._log.append(job_id, claim.head + 1, (), claim.attempt, claim.segment)
        while there < claim.head and (events := await self._ledger.events(job_id, there, _PAGE)):
            self._publish(job_id, events)
            there = events[-1].seq

    async def _read(self, job_id: str) -> None:
        try:
            await self.refresh(job_id)
        except MillstreamError as error:
            _log.warning("what others did to a job cannot be read yet", job=job_id, why=str(error))
        finally:
            self._unread.discard(job_id)

    def _read_soon(self, job_id: str) -> None:
        """Read what others recorded, as the numbers of our own records say that they did; once for all until then."""
        if job_id in self._unread:
            return
        self._unread.add(job_id)
        task = asyncio.create_task(self._read(job_id))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)


def _is_awaited(run: Run, event: Event) -> bool:
    """Whether an event says what became of a node that a run has handed out."""
    return run.handing is not None and run.handing.awaits(event)
