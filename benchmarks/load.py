"""Load on servers: the processes of clients, and what they are asked to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from benchmarks.environments import ROOT

_READER_PROCESSES = 4


@dataclass(frozen=True)
class Place:
    """Where clients ask, as whom, and for which flow."""

    url: str
    token: str
    flow: str = ""
    key: str = ""


class Clients:
    """The process of some clients."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.http_clients"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, place: Place, kind: str, clients: int, seconds: float) -> None:
        """Let so many clients ask one after the other for a time; the answer has how long each waited."""
        self._begin(do="load", **vars(place), kind=kind, clients=clients, seconds=seconds)

    def read(self, place: Place, jobs: Sequence[str], readers: int) -> None:
        """Open event streams of builds that wait, and keep them; the answer has how many are open."""
        self._begin(do="read", url=place.url, token=place.token, jobs=jobs, readers=readers)

    def _begin(self, **request: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients ended with exit code {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def crowd(place: Place, jobs: Sequence[str], count: int) -> Iterator[int]:
    """Let so many read the events of builds that wait, each on a connection of its own; give how many there are."""
    with ExitStack() as stack:
        groups = [Clients() for _ in range(_READER_PROCESSES)]
        for group in groups:
            stack.callback(group.close)
            group.read(place, jobs, count // len(groups))
        yield sum(group.answer()["open"] for group in groups)


def percentile(waits: Sequence[float], percent: int) -> float:
    return quantiles(waits, n=100)[percent - 1] if len(waits) > 1 else waits[0]
