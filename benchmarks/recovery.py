"""How long a job stands still when the process that executes it is killed, with another process standing by."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.environments import ROOT
from benchmarks.places import new_directory

CASES = (
    ("on one machine: the lock of the dead tells it", 5, ()),
    ("no lock: the lease of 15 s runs out", 2, ("apart",)),
)
MOST_SECONDS = 60.0


def measure() -> dict[str, Any]:
    print(f"\n{'kill -9 in mid-job, until the next node runs':<{report.WIDTH + 2}}")
    raw: dict[str, Any] = {}
    for title, rounds, options in CASES:
        seconds = [stands_still(*options) for _ in range(rounds)]
        print(f"  {title:<50}{report.ms(median(seconds)):>14}  ({report.spread(seconds)})", flush=True)
        raw[title] = seconds
    return raw


def stands_still(*options: str) -> float:
    directory = new_directory()
    standing_by = _start(directory, *options)
    victim = _start(directory, "submit", *options)
    try:
        _wait_for(directory, victim.pid, after=0.0)
        time.sleep(0.3)
        victim.kill()
        killed = time.monotonic()
        return _wait_for(directory, standing_by.pid, after=killed) - killed
    finally:
        for process in (victim, standing_by):
            process.kill()
            process.communicate()
        shutil.rmtree(directory)


def _start(directory: Path, *options: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "benchmarks.steps", str(directory), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("a process that is to take part in the ledger did not start")
    return process


def _wait_for(directory: Path, process: int, after: float) -> float:
    """Wait until a process has run a node, and return when it did."""
    told, until = directory / "told", time.monotonic() + MOST_SECONDS
    while time.monotonic() < until:
        lines = told.read_text(encoding="utf-8").split("\n")[:-1] if told.exists() else []
        for line in lines:
            who, when = line.split()
            if int(who) == process and float(when) > after:
                return float(when)
        time.sleep(0.002)
    raise RuntimeError(f"no node ran within {MOST_SECONDS:g} s")
