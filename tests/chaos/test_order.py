"""What a node reads, and what an attempt follows on, is recorded before it starts, however long that takes."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millstream import JobState
from tests.chaos.stage import Stage

PATIENCE = 0.3
"""How long a test waits for what must not come, in seconds."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@contextmanager
def writing(ledger: Path) -> Iterator[None]:
    """Have the turn to write, so that nobody else writes meanwhile."""
    with Path(f"{ledger}.lock").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


async def test_no_node_starts_before_what_it_reads_is_recorded(stage: Stage, tmp_path: Path) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start()
        held = stage.hold()
        job = await app.submit("gated", before=0)
        await stage.until(lambda: len(stage.effects(worker)) == 1, "the first node did not begin")
        with writing(tmp_path / "ledger.db"):
            held.unlink()
            await stage.until(lambda: stage.has_finished(worker), "the first node did not finish")
            assert not await stage.comes(lambda: len(stage.effects(worker)) > 1, PATIENCE)
            worker.kill()
            worker.wait()
        other = stage.start()
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(other)
    assert stage.violations() == []


async def test_no_attempt_starts_before_the_failure_of_the_one_before_is_recorded(stage: Stage, tmp_path: Path) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start()
        held = stage.hold()
        job = await app.submit("stumbling")
        await stage.until(lambda: len(stage.effects(worker)) == 1, "the first attempt did not begin")
        with writing(tmp_path / "ledger.db"):
            held.unlink()
            await stage.until(lambda: stage.has_finished(worker), "the first attempt did not finish")
            assert not await stage.comes(lambda: len(stage.effects(worker)) > 1, PATIENCE)
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(worker)
    assert stage.violations() == []
