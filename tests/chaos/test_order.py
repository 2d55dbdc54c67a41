"""What a node reads is recorded before the node starts, however long that takes."""

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
        job = await app.submit("paced")
        await stage.until(lambda: len(stage.effects(worker)) == 1, "the first node did not begin")
        with writing(tmp_path / "ledger.db"):
            await stage.until(lambda: stage.has_finished(worker), "the first node did not finish")
            assert not await stage.comes(lambda: len(stage.effects(worker)) > 1, PATIENCE)
            worker.kill()
            worker.wait()
        other = stage.start()
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(other)
    assert stage.violations() == []
