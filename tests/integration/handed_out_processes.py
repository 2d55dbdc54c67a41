"""Processes that execute what is in a ledger, as tests start them, and what their nodes noted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millstream import Job, Millstream, Settings
from tests.integration.cli_program import environment
from tests.integration.handed_out_flows import NO_BROKER

ROOT = Path(__file__).resolve().parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def starting(default: str) -> Iterator[Start]:
    """Give what starts a process that executes what is in a ledger, of some queues or of all.

    All are killed at the end.

    Args:
        default: The ledger's URL, where none is given.
    """
    started: list[subprocess.Popen[str]] = []

    def one(*queues: str, url: str = default) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "tests.integration.handed_out_flows", url, *queues]
        variables = environment(PYTHONPATH=str(ROOT))
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        return process

    yield one
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def client_on(url: str, **settings: Any) -> Millstream:
    """Return an app that hands work in to workers, and executes nothing."""
    given = {"celery_enabled": True, "broker_url": NO_BROKER, "durability": "full", **settings}
    return Millstream(settings=Settings(database_url=url, **given), executes=False)


async def kinds(job: Job) -> list[str]:
    """Return the types of an ended job's events."""
    return [event.type async for event in job.events() if event.is_durable]


def notes(directory: Path) -> list[list[str]]:
    """Return what nodes noted: what, under which name, in which process."""
    path = directory / "notes"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def took(directory: Path, process: subprocess.Popen[str]) -> bool:
    """Return whether a process has begun a node."""
    return any(int(who) == process.pid for _, _, who in notes(directory))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition that other processes bring about."""
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  other processes make it so
            await asyncio.sleep(0.01)


async def knows_of(app: Millstream, others: int) -> None:
    """Wait until a process knows how many execute beside it."""

    def knows() -> bool:
        process = app._home.process
        hand_out = None if process is None else process.segments.hand_out
        return hand_out is not None and hand_out.members == others + 1

    await until(knows)
