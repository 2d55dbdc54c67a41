"""Cancels from another process: before the start, a hundred at once, and just when a job ends."""

import asyncio
import signal

import pytest

from millstream import JobState
from millstream.execution import cancel
from millstream.model.event import TERMINAL
from tests.chaos.stage import SECONDS, Stage


async def test_a_job_that_is_cancelled_before_it_starts_has_no_effect(stage: Stage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        cancelled, other = await app.submit("chain"), await app.submit("chain")
        assert await cancelled.cancel() is JobState.CANCELLED
        worker = stage.start()
        assert await other.wait() is JobState.SUCCEEDED
        assert await cancelled.state() is JobState.CANCELLED
    stage.end(worker)
    assert {effect.job for effect in stage.effects(worker)} == {other.id}
    assert stage.violations() == []


async def test_a_hundred_cancels_at_once_get_one_answer_and_make_one_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "ANSWER_SECONDS", SECONDS)  # a busy machine may take longer to stop what runs
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start()
        job = await app.submit("slow")
        await stage.until(lambda: bool(stage.effects(worker)), "the worker did not begin")
        assert set(await asyncio.gather(*(job.cancel() for _ in range(100)))) == {JobState.CANCELLED}
        assert [event.type for event in [event async for event in job.events()]].count(TERMINAL) == 1
    stage.end(worker)
    assert stage.violations() == []


@pytest.mark.parametrize(
    "held", ["after-effect:1", "after-effect:2", "in-commit:4", "after-commit:4", "before-settle:1", "after-settle:1"]
)
async def test_a_cancel_that_meets_the_end_is_told_the_truth(stage: Stage, held: str) -> None:
    """The worker is held up at a point near the end; the cancel comes meanwhile."""
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start(at=f"{held}:stop")
        job = await app.submit("chain", length=2)
        await stage.stopped(worker)
        cancel = asyncio.ensure_future(job.cancel())
        await asyncio.wait({cancel}, timeout=0.05)
        worker.send_signal(signal.SIGCONT)
        told, end = await cancel, await job.wait()
        assert told in (end, JobState.RUNNING)
        assert await job.cancel() is end
    stage.end(worker)
    assert stage.violations() == []
