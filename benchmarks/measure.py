"""Taking the figures: all systems side by side, round by round, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self

from benchmarks.environments import ROOT, NotInstalledError, python_for

ROUND_SECONDS = 0.25
MOST_TIMES = 1000


class WorkerFailedError(Exception):
    """Raised when a system cannot be measured; the message says why."""


class Worker:
    """The process of one system."""

    def __init__(self, system: str) -> None:
        self.system = system
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [python_for(system), "-m", "benchmarks.worker", system],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.title: str = self.ask(do="title")["title"]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerFailedError(f"its process ended with exit code {self._process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        if "failed" in reply:
            raise WorkerFailedError(reply["failed"].strip().splitlines()[-1])
        return reply

    def close(self) -> None:
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Figure:
    """What was measured of one system on one shape: seconds per run, by round; or why nothing was."""

    system: str
    title: str
    rounds: list[float] = field(default_factory=list)
    reason: str | None = None
    note: str | None = None

    @property
    def seconds(self) -> float:
        return median(self.rounds)

    def plain(self) -> dict[str, Any]:
        return asdict(self) | ({"median": self.seconds} if self.rounds else {})


def start(systems: Sequence[str]) -> tuple[dict[str, Worker], dict[str, str]]:
    """Return a worker per system, and why there is none for the others."""
    workers, missing = {}, {}
    for system in systems:
        try:
            workers[system] = Worker(system)
        except (NotInstalledError, WorkerFailedError) as why:
            missing[system] = str(why)
    return workers, missing


def side_by_side(workers: Mapping[str, Worker], rounds: int, request: Mapping[str, Any]) -> list[Figure]:
    """Measure one thing on all systems, in rounds that begin with another system each time."""
    figures = {name: Figure(name, worker.title) for name, worker in workers.items()}
    times = {name: _times(figures[name], worker, request) for name, worker in workers.items()}
    for turn in range(rounds):
        order = [name for name in workers if figures[name].reason is None]
        shift = turn % max(len(order), 1)
        for name in order[shift:] + order[:shift]:
            _measure(figures[name], workers[name], {**request, "times": times[name]})
    return list(figures.values())


def _times(figure: Figure, worker: Worker, request: Mapping[str, Any]) -> int:
    """Warm a system up, and return how many runs make a round."""
    trial = Figure(figure.system, figure.title)
    for times in (1, 3):
        _measure(trial, worker, {**request, "times": times})
        if trial.reason is not None:
            figure.reason = trial.reason
            return 0
    return max(1, min(MOST_TIMES, round(ROUND_SECONDS / trial.rounds[-1])))


def _measure(figure: Figure, worker: Worker, request: Mapping[str, Any]) -> None:
    try:
        reply = worker.ask(**request)
    except WorkerFailedError as why:
        figure.reason = f"failed: {why}"
        return
    if "unsupported" in reply:
        figure.reason = reply["unsupported"]
    else:
        figure.rounds.append(reply["seconds"])
        figure.note = reply.get("note")
