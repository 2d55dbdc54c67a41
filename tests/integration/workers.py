"""Real worker processes on one ledger, for tests that kill, stop and deafen them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.cli_program import SECONDS, environment, wait_until

ROOT = Path(__file__).resolve().parents[2]
FLOWS = "tests.integration.shared_flows"
NO_LOCKS = "import millstream.ledger.proof as proof; proof._place = lambda: None"
DEAF = """
import millstream.ledger.bell as bell, millstream.ledger.notify as notify
async def listen(self, heard): pass
for kind in (bell.SocketBell, notify.NotifyBell):
    kind.listen = listen
"""
_PROGRAM = "import sys; from millstream.cli.program import main; sys.exit(main())"


class Worker:
    """A worker process.

    Attributes:
        process: The process.
    """

    def __init__(self, url: str, options: tuple[str, ...], changes: tuple[str, ...], settings: dict[str, str]) -> None:
        variables = {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "\n".join((*changes, _PROGRAM)), "worker", "-A", FLOWS, *options],
            env=environment(PYTHONPATH=str(ROOT), MILLSTREAM_DATABASE_URL=url, **variables),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """What it wrote to standard error so far."""
        return "".join(self._lines)

    def wait_ready(self) -> Worker:
        self.wait_for("is ready")
        return self

    def wait_for(self, pattern: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: re.search(pattern, self.said) or self.process.poll() is not None, pattern)
        assert re.search(pattern, self.said), f"it ended with {self.process.poll()}: {self.said}"

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        self._lines.extend(iter(self.process.stderr.readline, ""))


class Workers:
    """Starts workers on one ledger; they are killed at the end of the test.

    Attributes:
        url: The ledger.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._all: list[Worker] = []

    def start(self, *options: str, changes: tuple[str, ...] = (), **settings: str) -> Worker:
        """Start a worker, with a part of the program changed or a setting made."""
        worker = Worker(self.url, options, changes, settings)
        self._all.append(worker)
        return worker.wait_ready()

    def close(self) -> None:
        for worker in self._all:
            worker.process.kill()
            worker.wait()
            worker.process.stderr.close()  # type: ignore[union-attr]


@contextmanager
def workers_on(url: str) -> Iterator[Workers]:
    workers = Workers(url)
    try:
        yield workers
    finally:
        workers.close()


class Told:
    """What the steps said that they did.

    Args:
        path: Their file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[list[str]]:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [line.split() for line in text.splitlines()]

    def count(self, *words: str) -> int:
        return sum(line[: len(words)] == list(words) for line in self.lines())

    def by(self, pid: int) -> list[str]:
        """Return which steps a process began, in order."""
        return [name for what, name, who in self.lines() if what == "begin" and int(who) == pid]

    def most_at_once(self, pid: int) -> int:
        """Return how many steps a process ran at once at most."""
        now = most = 0
        for what, _, who in self.lines():
            if int(who) == pid:
                now += 1 if what == "begin" else -1
                most = max(most, now)
        return most
