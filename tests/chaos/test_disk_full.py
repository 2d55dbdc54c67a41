"""A disk without room: what runs waits for room and goes on, what was recorded can be read."""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream import JobState, Millstream
from millstream.ledger.base import StorageFullError
from tests.chaos.stage import Stage

NO_ROOM = 4096
UNLIMITED = resource.RLIM_INFINITY


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


async def test_a_worker_that_may_not_write_waits_until_it_may(stage: Stage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start()
        held = stage.hold()
        job = await app.submit("gated", before=2, after=5)
        await stage.until(lambda: len(stage.effects(worker)) >= 3, "the worker did not begin")
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (NO_ROOM, UNLIMITED))
        held.unlink()
        await stage.until(lambda: "cannot grow" in stage.said(), "the worker did not say that there is no room")
        assert await job.state() is JobState.RUNNING
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(worker)
    assert stage.violations() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; only root can make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system; the other tests of a full disk ran")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["/bin/umount", "-l", place], check=True)


async def test_on_a_disk_of_4_mib_submits_fail_when_it_is_full_and_go_on_when_it_is_not(small_disk: Path) -> None:
    filler = small_disk / "filler"
    settings = Stage(f"sqlite:///{small_disk}/ledger.db", small_disk).settings
    async with Millstream(settings=settings) as app:
        before = await app.submit("echoed", text="x" * 100)
        assert await before.result() == "x" * 100
        filler.write_bytes(bytes(_free(small_disk)))
        with pytest.raises(StorageFullError, match=r"no room|cannot grow"):
            await _submit_much(app)
        assert await before.result() == "x" * 100
        filler.unlink()
        after = await app.submit("echoed", text="z" * 100)
        assert await after.result() == "z" * 100


async def _submit_much(app: Millstream) -> None:
    for _ in range(100):
        await app.submit("echoed", text="y" * 100_000)


def _free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_bsize
