"""Executes one claimed segment: drive the planner, record, settle. Here alone an exception becomes a job's state."""

from __future__ import annotations

from typing import Any

import anyio
import structlog

from millstream.engine import control
from millstream.engine.program import Drawn
from millstream.engine.run import Run
from millstream.engine.services import Services
from millstream.errors import ExpiredError, TaskTimeoutError
from millstream.events.base import EventLog
from millstream.execution.recorder import Recorder
from millstream.ledger.base import Claim, FencedError, Ledger, Settlement
from millstream.model.failure import Failure, record_failure
from millstream.model.job import JobRecord, JobState, Reason
from millstream.model.policy import class_name

_log = structlog.get_logger("millstream.execution")

_AT_ONCE = 100
_REASONS: dict[str, Reason] = {class_name(TaskTimeoutError): "timeout", class_name(ExpiredError): "expired"}


class Segments:
    """Executes the segments of one process.

    Args:
        ledger: Where to record.
        log: Where to publish.
        services: What all runs share.
    """

    def __init__(self, ledger: Ledger, log: EventLog, services: Services) -> None:
        """Start with nothing running."""
        self._ledger = ledger
        self._log = log
        self._services = services
        self._drawn: dict[str, Drawn] = {}
        self._runs: dict[str, Run] = {}
        self._claims: dict[str, Claim] = {}

    def keep(self, job_id: str, drawn: Drawn) -> None:
        """Keep a submitted job's graph, values and code until it is executed here."""
        self._drawn[job_id] = drawn

    def drop(self, job_id: str) -> None:
        """Forget what was kept of a job that will not be executed."""
        self._drawn.pop(job_id, None)

    def cancel(self, job_id: str) -> None:
        """Stop a job's segment if it runs here."""
        run = self._runs.get(job_id)
        if run is not None:
            run.cancel()

    def answer(self, job_id: str, path: str, value: Any) -> bool:
        """Give a waiting approval its answer; return whether one waits at that path of the job."""
        run = self._runs.get(job_id)
        return run is not None and control.answer(run, path, value)

    async def trim(self, keep: int) -> None:
        """Forget ended jobs beyond the `keep` that ended last, with their events."""
        for job_id in await self._ledger.trim(keep):
            self._log.forget(job_id)

    async def execute(self, claim: Claim) -> None:
        """Execute a claimed segment to its end.

        When this coroutine is cancelled (the process stops) the job is settled as cancelled, reason `shutdown`: this
        ledger ends with its process, so nobody could go on with it.
        """
        job = claim.job
        self._claims[job.id] = claim
        recorder = Recorder(claim, self._ledger, self._log, lambda: self.cancel(job.id))
        recorder.put((True, "started", self._services.clock.now(), None, {"attempt": claim.attempt}))
        end = Settlement(JobState.CANCELLED, "shutdown")
        try:
            end = await self._drive(claim, recorder)
        except Exception as error:  # noqa: BLE001  the last resort: whatever it is, the job ends with a stated outcome
            failure = record_failure(error)  # its plain traceback: a log must not show the values of variables
            _log.error("a segment failed outside of its tasks", job=job.id, flow=job.flow, trace=failure.traceback)
            end = Settlement(JobState.FAILED, "internal", error=failure)
        finally:
            self._runs.pop(job.id, None)
            self._claims.pop(job.id, None)
            with anyio.CancelScope(shield=True):
                await self._settle(job, recorder, end)

    async def give_up(self, holder: str) -> None:
        """Settle every job that has not ended as cancelled, reason `shutdown`, so that nobody waits for it in vain.

        For the end of a process whose ledger ends with it (see `execute`), or of a loop that was closed under it.
        """
        claims, self._claims = list(self._claims.values()), {}
        while claims := claims or await self._ledger.claim(holder, _AT_ONCE):
            for claim in claims:
                self.drop(claim.job.id)
                recorder = Recorder(claim, self._ledger, self._log, lambda: None)
                await self._settle(claim.job, recorder, Settlement(JobState.CANCELLED, "shutdown"))
            claims = []

    async def _drive(self, claim: Claim, recorder: Recorder) -> Settlement:
        job, now = claim.job, self._services.clock.now()
        drawn = self._drawn.pop(job.id)
        if (await self._ledger.get(job.id)).cancel_requested:
            return Settlement(JobState.CANCELLED, "cancel")
        if job.expires_at is not None and now > job.expires_at:
            late = ExpiredError(f"it had not started {job.expires_at - job.created_at:g} s after its submission")
            return Settlement(JobState.FAILED, "expired", error=record_failure(late))
        run = self._runs[job.id] = Run(job.id, drawn, job.created_at, self._services, recorder)
        state = await run.drive()
        if state is JobState.SUCCEEDED:
            return Settlement(state, result=run.result)
        if state is JobState.CANCELLED:
            return Settlement(state, "cancel")
        return Settlement(state, _reason(run.failure), error=run.failure)

    async def _settle(self, job: JobRecord, recorder: Recorder, end: Settlement) -> None:
        try:
            await recorder.settle(end)
        except FencedError:
            _log.warning("a segment's end was refused: another holds it now", job=job.id, flow=job.flow)


def _reason(failure: Failure | None) -> Reason:
    """Return the reason of a failed job: a time-out and an expiry have their own."""
    if failure is None:
        return "internal"
    return next((reason for name, reason in _REASONS.items() if name in failure.ancestors), "error")
