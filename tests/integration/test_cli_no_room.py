"""`millstream run` whose ledger takes nothing: it says so once, ends when it is asked to, and the job is not lost."""

import os
import resource
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.cli_program import SECONDS, started, wait_until
from tests.services import PostgresServer

FLOWS = """
    import asyncio, os
    from pathlib import Path
    from millstream import ctx, flow, task

    @task
    async def much(size: int) -> bytes:
        ctx.log("began")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        return os.urandom(size)

    @flow
    def large(size: int = 2_000_000):
        return much(size)
"""
NO_ROOM = "the ledger has no room"
ROOM = "the ledger has room again"
AWAY = "the ledger is not available"
SOON = 12.0
"""Seconds within which a program ends that was asked to: well below any time-out of the ledger's."""


class Place:
    """A directory with flows, in which a program finds no room, and then some again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "vals.py").write_text(textwrap.dedent(FLOWS), encoding="utf-8")

    def fill(self, process: subprocess.Popen[str]) -> None:
        """Leave no room for what a process has to write."""
        raise NotImplementedError

    def free(self, process: subprocess.Popen[str]) -> None:
        """Make room."""
        raise NotImplementedError

    @contextmanager
    def running(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Run the flow until its task waits to be told to return."""
        with started("run", "vals.py:large", *arguments, cwd=self.directory, **variables) as process:
            said_by(process, "began")
            yield process

    def go(self) -> None:
        """Let the task return."""
        (self.directory / "go").touch()

    def large_values(self) -> list[str]:
        """Return the files with large values, whole or not."""
        return [path.name for path in self.directory.glob(".millstream/*.blobs/**/*") if path.is_file()]


class Limited(Place):
    """Where a process may write no long files."""

    def fill(self, process: subprocess.Popen[str]) -> None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def free(self, process: subprocess.Popen[str]) -> None:
        if process.returncode is not None:
            return
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class SmallDisk(Place):
    """A file system of its own, which another file fills."""

    left = 0
    """Bytes that are left free."""

    def fill(self, process: subprocess.Popen[str]) -> None:  # noqa: ARG002  as in Place
        with (self.directory / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(self.directory / "filler", (self.directory / "filler").stat().st_size - self.left)

    def free(self, process: subprocess.Popen[str]) -> None:  # noqa: ARG002  as in Place
        (self.directory / "filler").unlink()


class AlmostFullDisk(SmallDisk):
    """A file system with room for all but a large value."""

    left = 1 << 20


@pytest.fixture(params=[Limited, SmallDisk, AlmostFullDisk])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param is Limited:
        yield Limited(tmp_path)
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system; the same with a limit on the length of files ran")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    yield request.param(disk)
    subprocess.run(["/bin/umount", "-l", disk], check=True)


def said_by(process: subprocess.Popen[str], what: str) -> str:
    """Read a program's standard error up to a line that has something in it, and return it."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if what in line:
            return said
    raise AssertionError(f"it never said {what!r}, but:\n{said}")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_one_that_waits_for_room_says_so_once_and_ends_when_it_is_asked_to(
    place: Place, signum: signal.Signals
) -> None:
    with place.running() as process:
        place.fill(process)
        place.go()
        said = said_by(process, NO_ROOM)
        process.send_signal(signum)
        out, err = process.communicate(timeout=SOON)
    said += err
    assert (process.returncode, out) == (69, ""), said
    assert said.count(NO_ROOM) == 1
    assert said.splitlines()[-1].startswith("millstream: ")
    assert "ledger.db" in said.splitlines()[0], "it does not say where"
    assert ROOM not in said
    assert "trace" not in said.lower()
    assert place.large_values() == []


def test_one_that_waited_goes_on_when_there_is_room(place: Place) -> None:
    with place.running("--json") as process:
        place.fill(process)
        place.go()
        said_by(process, NO_ROOM)
        place.free(process)
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert '"state":"succeeded"' in out
    assert err.count(ROOM) == 1
    assert len(place.large_values()) == 1


def test_what_was_left_for_want_of_room_is_taken_up_when_there_is_some(place: Place) -> None:
    with place.running() as process:
        place.fill(process)
        place.go()
        said_by(process, NO_ROOM)
        process.terminate()
        process.wait(SOON)
        place.free(process)
    with started("worker", "-A", "vals.py", cwd=place.directory):
        wait_until(lambda: len(place.large_values()) == 1, "a worker goes on with the job")


def test_one_whose_database_is_away_ends_when_it_is_asked_to(tmp_path: Path, postgres_server: PostgresServer) -> None:
    place = Limited(tmp_path)
    with (
        postgres_server.database() as url,
        place.running(MILLSTREAM_DATABASE_URL=url) as process,
    ):
        postgres_server.kill()
        place.go()
        said = said_by(process, AWAY)
        process.terminate()
        out, err = process.communicate(timeout=SOON)
        postgres_server.start()
    said += err
    assert (process.returncode, out) == (69, ""), said
    assert said.count(AWAY) == 1
