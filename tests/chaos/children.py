"""What the forked processes of a round do: work, submit, or read everything at the end. Each may be killed anywhere."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import millstream.ledger.sql  # noqa: F401  loaded once, before the forks
from millstream import Millstream, Settings
from millstream.cli import program
from millstream.ledger import proof
from millstream.model.event import START
from millstream.testing import crash
from millstream.testing.history import ObservationLog, StreamEnded, StreamOpened
from tests.chaos.client import Client, Plan, look, seen
from tests.chaos.load import CLAIMER, EFFECTS
from tests.lifeline import stop_at

FLOWS = "tests.chaos.load"

ORDERLY = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit codes of children that ended as they were asked to; the last one where that was before they could listen."""

WITHOUT_PROOF = "CHAOS_WITHOUT_PROOF"
"""The variable that makes a process hold no lock as proof of life, as on another machine; its lease has to run out."""

STOPS = "CHAOS_STOPS"
"""The variable that says where a process is stopped while it does not write to the ledger: `<point>:<n>`."""

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def environment(url: str, home: Path, lease: float, *, has_proof: bool, at: str = "") -> dict[str, str]:
    """Return the variables of a child.

    Args:
        url: The ledger's.
        home: Where it logs.
        lease: Its seconds.
        has_proof: Whether it holds a lock as proof of life.
        at: Where it crashes; see `crash.AT`.
    """
    return {
        "MILLSTREAM_DATABASE_URL": url,
        "MILLSTREAM_IMPORTS": FLOWS,
        "MILLSTREAM_LEASE_SECONDS": str(lease),
        "MILLSTREAM_DURABILITY": "full",
        "MILLSTREAM_DRAIN_GRACE": "0.05",  # so that something is handed on
        EFFECTS: str(home / "effects"),
        WITHOUT_PROOF: "" if has_proof else "1",
        crash.AT: at,
        crash.LOG: str(home / "deaths"),
    }


def fork(work: Callable[[], None], variables: Mapping[str, str], said: Path) -> int:
    """Do something in a child, and return its process id.

    Args:
        work: What it does.
        variables: The environment variables that it has beyond those of this process.
        said: Where its standard output and error go.
    """
    pid = os.fork()
    if pid == 0:
        _live(work, variables, said)
    return pid


def _live(work: Callable[[], None], variables: Mapping[str, str], said: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()  # Ctrl-C is for the one who plays the rounds
        out = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(variables)
        prepare()
        work()
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:  # noqa: BLE001  a fork must not go on with its parent's work
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def prepare() -> None:
    """Make this process a child as its environment says; it ends with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ[CLAIMER] = str(os.getpid())
    if os.environ[WITHOUT_PROOF]:
        proof.fcntl = None  # type: ignore[assignment, attr-defined]  # as on a machine where nothing proves a death
    crash.arm_from(os.environ)
    if os.environ.get(STOPS):
        point, _, nth = os.environ[STOPS].partition(":")
        stop_at(point, int(nth), os.environ["MILLSTREAM_DATABASE_URL"])


def work() -> None:
    """Be a worker, as the command line starts one."""
    sys.exit(program.main(["worker", "-A", FLOWS]))


def serve(port: int, processes: int) -> None:
    """Be a server, as the command line starts one.

    Args:
        port: Where it listens, on 127.0.0.1.
        processes: How many answer; each of several is a fork of this one.
    """
    os.register_at_fork(after_in_child=lambda: os.environ.update({CLAIMER: str(os.getpid())}))
    sys.exit(program.main(["serve", "-A", FLOWS, "--port", str(port), "--workers", str(processes)]))


def submit(plan: Plan) -> None:
    """Be a client, which also executes; asked to stop, it hands on what runs."""

    async def live() -> None:
        life = asyncio.current_task()
        assert life is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, life.cancel)
        async with Millstream(settings=Settings.load()) as app:
            await Client(plan, app).live()

    with suppress(asyncio.CancelledError):
        asyncio.run(live())


def found() -> None:
    """Make the ledger."""

    async def make() -> None:
        async with Millstream(settings=Settings.load()):
            pass

    asyncio.run(make())


def forget(jobs: list[str]) -> None:
    """Forget jobs that have ended, as retention does."""

    async def forget_all() -> None:
        async with Millstream(settings=Settings.load(), executes=False) as app:
            await app.ledger.forget(jobs)

    asyncio.run(forget_all())


def read(jobs: list[str], path: Path) -> None:
    """Read every event and every result once more, as one who comes later."""
    log = ObservationLog(path)

    async def read_all() -> None:
        async with Millstream(settings=Settings.load(), executes=False) as app:
            for job_id in jobs:
                if not (await app.record(job_id)).state.is_final:
                    continue  # its stream would have no end
                reader = f"late-{job_id}"
                log.put(StreamOpened(job=job_id, reader=reader))
                async for event in app.read_events(job_id, START):
                    log.put(seen(job_id, reader, event))
                log.put(StreamEnded(job=job_id, reader=reader))
                look(log, await app.record(job_id))

    asyncio.run(read_all())


if __name__ == "__main__":
    prepare()
    work()
