"""Further attempts of a node: what is recorded of them, and until when they may start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from millstream.engine.past import Due
from millstream.engine.retry import is_requeued
from millstream.errors import ExpiredError
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import Failure, record_failure

if TYPE_CHECKING:
    from millstream.engine.run import Run


def try_again(run: Run, frame: Frame, index: int, failure: Failure, attempt: int, delay: float) -> Sequence[Place]:
    """Record that an attempt failed, and let the next one start after a delay in seconds.

    One that was rejected does not count: the next one has its number.
    """
    data: dict[str, Any] = {"attempt": attempt, "error": failure, "delay": delay}
    if failure.expires is not None:
        data["expires"] = failure.expires
    if is_requeued(failure):
        data["requeued"] = True
    now = run.now()
    run.put((True, "node_retried", now, frame.name(index), data))
    run.begun.discard((frame, index, attempt))
    due = Due.of(data, now)
    _expect(run, frame, index, due)
    # Recorded before the next one: else a process that dies takes attempts with it that nobody counts.
    return run.waits.for_retry(frame, index, due.at) if delay else run.gate.after([(frame, index)])


def go_on(run: Run, frame: Frame, index: int, due: Due) -> Sequence[Place] | None:
    """Go on between two attempts; return what may start then, or `None` where the next attempt is due."""
    _expect(run, frame, index, due)
    return run.waits.for_retry(frame, index, due.at) if due.at > run.now() else None


def _expect(run: Run, frame: Frame, index: int, due: Due) -> None:
    run.attempts[frame, index] = due.attempt
    run.dues[frame, index] = due
    run.is_fresh = run.is_fresh and due.expires is None  # else each node is looked at before it starts


def check_expiry(run: Run, frame: Frame, index: int, attempt: int) -> Failure | None:
    """Return the failure of an attempt that must not start any more, if it is one."""
    seconds, now = frame.content.policy(index).expires, run.now()
    if seconds is not None and attempt == 1 and now - run.job.created_at > seconds:
        return _too_late(frame, index, f"it had not started {seconds:g} s after the job's submission")
    due = run.dues.get((frame, index))
    if due is not None and due.expires is not None and now > due.expires:
        return _too_late(frame, index, f"attempt {attempt} had not started when the retry's `expires` was over")
    return None


def _too_late(frame: Frame, index: int, why: str) -> Failure:
    return record_failure(ExpiredError(why), frame.name(index))
