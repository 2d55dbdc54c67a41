"""Asks a job to stop, and tells the truth about what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from millstream.clock import Clock
from millstream.events.base import EventLog
from millstream.execution.ports import Canceller
from millstream.execution.segment import Segments
from millstream.ledger.base import Ledger
from millstream.model.event import TERMINAL
from millstream.model.job import JobRecord
from millstream.points import reach

ANSWER_SECONDS = 2.0
"""How long a cancel waits for the job to have really stopped before it answers."""


@dataclass(frozen=True, slots=True)
class Cancels:
    """Cancels jobs.

    Attributes:
        ledger: Where the wish is recorded first.
        log: Tells when the job has ended.
        clock: The time.
        canceller: Stops what runs.
        segments: Keeps the graphs of jobs that have not started here.
        signal: Tells all processes of a cancel that the ledger has; neither waits nor fails.
    """

    ledger: Ledger
    log: EventLog
    clock: Clock
    canceller: Canceller
    segments: Segments
    signal: Callable[[str], None]

    async def cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and return it as it then is.

        A job that nobody executes yet is cancelled at once and never starts. One that runs is cancelled when its
        coroutines are gone; if that takes more than two seconds the job is returned still running, with
        `cancel_requested`. A job that has ended is returned as it ended.

        Raises:
            JobNotFoundError: There is no such job.
        """
        ran_here = self.segments.is_running(job_id)
        self.canceller.cancel(job_id)  # at once, or what starts this instant would be over before the wish is recorded
        ended = (True, TERMINAL, self.clock.now(), None, {"state": "cancelled", "reason": "cancel"})
        job, first = await self.ledger.cancel(job_id, [ended])
        reach("after-cancel-row")
        if first is not None:
            self.segments.drop(job_id)
            self.log.append(job_id, first, [ended])
        self.canceller.cancel(job_id)
        if ran_here or first is not None or not job.state.is_final:
            self.signal(job_id)
        if job.state.is_final:
            return job
        with anyio.move_on_after(ANSWER_SECONDS):
            await self.log.wait_end(job_id)
        return await self.ledger.get(job_id)
