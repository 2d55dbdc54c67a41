"""`millstream serve` as a program in a process of its own, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.lifeline import children, descriptors, send

PATIENCE = 120.0


class Served:
    """The program in a process of its own, in a directory of its own."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.directory = directory
        self.log = directory / "said.txt"
        with self.log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millstream", "serve", "--port", "0", *arguments],
                cwd=directory,
                env={**os.environ, "MILLSTREAM_DRAIN_GRACE": "5", **environment},
                stderr=said,
                stdout=said,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        left = [self.process.pid, *self.workers()]
        send(signal.SIGKILL, *left)
        self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def find(self, pattern: str, count: int = 1) -> str:
        """Wait until the program has said something so often, and return the last one's first group."""
        until = time.monotonic() + PATIENCE
        while len(found := re.findall(pattern, self.said)) < count:
            assert time.monotonic() < until, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        last: str = found[-1]
        return last

    @property
    def url(self) -> str:
        return self.find(r"✓ millstream is ready at (http://\S+)")

    def workers(self) -> list[int]:
        """Return the processes that it has started; with Gunicorn, those that answer."""
        return children(self.process.pid)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


def listening(pid: int) -> int:
    """Return on how many sockets of the network a process listens."""
    inodes = set()
    for _, target in descriptors(pid):
        if socket := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.add(socket[1])
    rows = [
        line.split()
        for kind in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{kind}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return sum(1 for row in rows if row[3] == "0A" and row[9] in inodes)
