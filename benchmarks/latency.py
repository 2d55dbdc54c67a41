"""How long a durable submit takes: until the job is on disk, and its id known."""

from __future__ import annotations

from statistics import quantiles
from typing import Any

from benchmarks import report
from benchmarks.measure import Worker

SYSTEMS = ("millstream-sqlite", "millstream-postgres")
CASES = ((500, 1), (5000, 16), (20_000, 256))  # how many submits, and how many submitters at once


def measure() -> dict[str, Any]:
    print(f"\n{'Submit a job, and wait for it':<{report.WIDTH + 2}}{'p50':>12}{'p99':>12}")
    raw: dict[str, Any] = {}
    for system in SYSTEMS:
        with Worker(system) as worker:
            for count, at_once in CASES:
                worker.ask(do="submits", count=count // 10, at_once=at_once)
                seconds = worker.ask(do="submits", count=count, at_once=at_once)["seconds"]
                cuts = quantiles(seconds, n=100)
                p50, p99 = cuts[49], cuts[98]
                title = f"{worker.title}, {at_once} at once"
                print(f"  {title:<{report.WIDTH}}{report.ms(p50):>12}{report.ms(p99):>12}", flush=True)
                raw[f"{system} {at_once}"] = {"p50": p50, "p99": p99}
    return raw
