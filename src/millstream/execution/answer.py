"""Answers what a job waits for: an approval, or the decision about a node that must run only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from millstream.clock import Clock
from millstream.errors import InvalidInputError
from millstream.events.base import EventLog
from millstream.execution.ports import Dispatcher
from millstream.execution.recorder import shown
from millstream.execution.segment import Segments
from millstream.ledger.base import Ledger
from millstream.ledger.facts import awaited
from millstream.model.event import Draft
from millstream.model.job import Decision
from millstream.points import reach

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers waits, of jobs that run here, elsewhere or nowhere at the moment.

    Attributes:
        ledger: Where the answer is recorded.
        log: Where it is published.
        clock: The time.
        segments: Gives the answer to a run of this process.
        dispatcher: Lets a paused job go on.
    """

    ledger: Ledger
    log: EventLog
    clock: Clock
    segments: Segments
    dispatcher: Dispatcher

    async def answer(self, job_id: str, node: str, value: Any) -> bool:
        """Answer the wait at a node's path; return whether one was open there.

        Args:
            job_id: The job.
            node: Path of the node that waits.
            value: The answer; for a decision a `Decision`.

        Raises:
            JobNotFoundError: There is no such job.
            InvalidInputError: A decision is due there and this is none, or the other way round.
            NotSerializableError: The answer cannot be written down.
        """
        job = await self.ledger.get(job_id)
        _check(node, value, await self._kind(job_id, node))
        data = self.ledger.seal(job, {"answer": value})
        draft: Draft = (True, "answered", self.clock.now(), node, data)
        first = await self.ledger.answer(job_id, node, [draft])
        if first is None:
            return False
        reach("after-answer")
        if self.segments.is_running(job_id):
            await self.segments.refresh(job_id)
        else:
            self.log.append(job_id, first, [shown(draft)])
            self.dispatcher.wake()
        return True

    async def _kind(self, job_id: str, node: str) -> str | None:
        """Return what a node waits for, if it waits for anybody."""
        facts: list[tuple[str, str | None, Any]] = []
        seq = 0
        while events := await self.ledger.events(job_id, seq, _PAGE):
            facts += [(event.type, event.node, event.data) for event in events if event.node == node]
            seq = events[-1].seq
        return awaited(facts, node)


def _check(node: str, value: Any, kind: str | None) -> None:
    is_decision = isinstance(value, Decision)
    if kind == "decision" and not is_decision:
        raise InvalidInputError(
            f"{node} must run only once, and nobody knows whether it has run: say Decision('repeat'), Decision('fail') "
            f"or Decision('done', its_result), not {value!r}"
        )
    if kind == "approval" and is_decision:
        raise InvalidInputError(f"{node} asks for an answer, not for a decision: give the answer itself, not {value!r}")
