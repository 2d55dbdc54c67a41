"""Processes on one ledger that a test starts, stops and ends one by one, and the judgement of what they did."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from millstream import Millstream, Settings
from millstream.clock import SystemClock
from millstream.ledger.sql import SqlLedger
from millstream.testing.history import Began, Finished, History, ObservationLog
from millstream.testing.invariants import Violation, violations
from tests.chaos import children
from tests.chaos.load import HOLD
from tests.chaos.verdict import history
from tests.chaos.witness import Witness

SECONDS = 120.0
_LOOK_SECONDS = 0.01
_ROOT = Path(__file__).resolve().parents[2]


class Stage:
    """A ledger, and the processes that a test lets work on it.

    Args:
        url: The ledger's; nothing is there yet.
        home: An empty directory for what is logged.
        lease: Its seconds.
        has_proof: Whether the processes hold a lock as proof of life.

    Attributes:
        witness: Looks into the ledger's tables.
        settings: Those of the processes, for an app of the test's own.
    """

    def __init__(self, url: str, home: Path, *, lease: float = 1.0, has_proof: bool = False) -> None:
        """Take everything; `made` begins."""
        self.witness = Witness(url)
        self.settings = Settings(database_url=url, lease_seconds=lease, imports=(children.FLOWS,))
        self._home = home
        self._url = url
        self._variables = partial(children.environment, home=home, lease=lease, has_proof=has_proof)
        self._children: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Kill, at the end of the block, whoever still lives."""
        try:
            yield
        finally:
            for child in self._children:
                child.kill()
                child.wait()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Millstream]:
        """Give an app that hands jobs in, and executes none; the ledger is there from then on."""
        ledger = SqlLedger(self._url, SystemClock())
        await ledger.open()
        await ledger.close()
        async with Millstream(settings=self.settings, executes=False) as app:
            yield app

    def start(self, at: str = "", url: str | None = None, *, stops: str = "") -> subprocess.Popen[bytes]:
        """Start a process that executes.

        Args:
            at: Where it crashes, if it is to (see `crash.AT`).
            stops: Where it is stopped while it does not write, if it is to be (see `children.STOPS`).
            url: How it reaches the ledger, if not as all others.
        """
        with (self._home / "said").open("ab") as said:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.children"],
                env={**os.environ, **self._variables(url or self._url, at=at), children.STOPS: stops},
                cwd=_ROOT,
                stdout=said,
                stderr=said,
            )
        self._children.append(child)
        return child

    def end(self, child: subprocess.Popen[bytes]) -> None:
        """End a process in order."""
        child.send_signal(signal.SIGTERM)
        assert child.wait(SECONDS) in children.ORDERLY, self.said()

    def hold(self) -> Path:
        """Let the flows `gated` and `stumbling` wait in their middle until the file that is returned is removed."""
        held = self._home / HOLD
        held.touch()
        return held

    async def stopped(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until a process has stopped."""
        await self.until(lambda: _state(child.pid) == "T", "the process did not stop")

    async def until(self, holds: Callable[[], bool], else_: str) -> None:
        """Wait for a condition."""
        assert await self.comes(holds, SECONDS), f"{else_}\n{self.said()}"

    async def comes(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition for some time, and return whether it holds."""
        end = time.monotonic() + seconds
        while not (does_hold := holds()) and time.monotonic() < end:  # noqa: ASYNC110  other processes make it so
            await asyncio.sleep(_LOOK_SECONDS)
        return does_hold

    def said(self) -> str:
        """Return what the processes said."""
        return (self._home / "said").read_text(encoding="utf-8", errors="replace")[-4000:]

    def effects(self, child: subprocess.Popen[bytes]) -> list[Began]:
        """Return the effects that a process began."""
        seen = ObservationLog(self._home / "effects").read()
        return [one for one in seen if isinstance(one, Began) and one.pid == child.pid]

    def has_finished(self, child: subprocess.Popen[bytes]) -> bool:
        """Whether a process has finished an effect."""
        seen = ObservationLog(self._home / "effects").read()
        return any(isinstance(one, Finished) and one.pid == child.pid for one in seen)

    def is_member(self, child: subprocess.Popen[bytes]) -> bool:
        """Whether the ledger takes a process for alive."""
        return child.pid in self.witness.members()

    def history(self) -> History:
        """Return everything that was seen."""
        return history(self.witness, [self._home / "effects", self._home / "deaths"])

    def violations(self) -> list[Violation]:
        """Return every violation of an invariant."""
        return violations(self.history())


def _state(pid: int) -> str:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0]
