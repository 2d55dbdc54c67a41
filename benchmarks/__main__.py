"""`python -m benchmarks`: measure millstream beside the floor and its peers, in one run on one machine.

A figure here is never a test: machines differ and drift. Only ratios taken side by side say something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks import fleet, latency, measure, million, recovery, report, serving, starts, workers
from benchmarks.own import OWN
from benchmarks.shapes import CANVASES, CROWDS, DURABLE_SHAPES, SHAPES, Shape

IN_MEMORY = ("millstream", "floor", "in-place", "langgraph", "hamilton")
DURABLE = ("millstream-sqlite", "millstream-sqlite-pure", "sqlite-commits", "dbos", "langgraph-sqlite")
CROWDED = (
    "millstream-sqlite",
    "millstream-sqlite-pure",
    "millstream-postgres",
    "millstream-postgres-pure",
    "sqlite-commits",
)
CALLED = ("millstream-canvas-sqlite", "millstream-canvas", "celery")
STARTING = ("millstream", "millstream-sqlite", "langgraph", "hamilton")
MEMORY_PARTS = (*(shape.name for shape in SHAPES), "own", "start")
DURABLE_PARTS = ("durable", "crowds", "canvas", "celery", "submit", "recovery", "million")
PARTS = (*MEMORY_PARTS, *DURABLE_PARTS, "server", "fleet")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of which the median is taken (default 7)")
    parser.add_argument("--rabbitmq", action="store_true", help="the part celery: with RabbitMQ as the broker")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figure there")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parts = options.only or PARTS
    print(f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}; ", end="")
    print(f"median of {options.rounds} rounds")
    raw: dict[str, Any] = {"cpus": os.cpu_count(), "python": platform.python_version()}
    shapes = [shape for shape in SHAPES if shape.name in parts]
    if shapes or "own" in parts:
        raw["memory"] = table("In memory", IN_MEMORY, shapes, options.rounds, has_own="own" in parts)
    if "start" in parts:
        raw["start"] = start()
    if "durable" in parts:
        raw["durable"] = table("Durable: every result on disk", DURABLE, DURABLE_SHAPES, options.rounds)
    if "crowds" in parts:
        raw["crowds"] = table("Durable: jobs share commits", CROWDED, CROWDS, options.rounds)
    if "canvas" in parts:
        raw["canvas"] = table("Canvases, called and awaited", CALLED, CANVASES, options.rounds)
    if "celery" in parts:
        raw["celery"] = workers.play(options.rounds, on_rabbitmq=options.rabbitmq)
    if "server" in parts:
        raw["server"] = serving.play(options.rounds)
    if "fleet" in parts:
        raw["fleet"] = fleet.play(options.rounds)
    raw |= others(parts)
    if options.json:
        options.json.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def table(
    title: str, systems: Sequence[str], shapes: Sequence[Shape], rounds: int, *, has_own: bool = False
) -> dict[str, Any]:
    print(f"\n{title:<{report.WIDTH + 2}}{report.HEAD}")
    raw: dict[str, Any] = {}
    processes, raw["missing"] = measure.start(systems)
    try:
        for shape in shapes:
            figures = measure.side_by_side(processes, rounds, {"do": "shape", "name": shape.name})
            print(report.shape_lines(shape, figures, raw["missing"]), flush=True)
            raw[shape.name] = [figure.plain() for figure in figures]
        if has_own:
            raw["own"] = own(processes["millstream"], rounds)
    finally:
        for process in processes.values():
            process.close()
    return raw


def own(worker: measure.Worker, rounds: int) -> dict[str, Any]:
    print("\nWhat it costs us to")
    raw = {}
    for figure_of in OWN:
        (figure,) = measure.side_by_side({"millstream": worker}, rounds, {"do": "own", "name": figure_of.name})
        print(report.own_line(figure_of, figure), flush=True)
        raw[figure_of.name] = figure.plain() | {"count": figure_of.count}
    return raw


def start() -> list[dict[str, Any]]:
    found = starts.measure(STARTING)
    print(f"\n{'A fresh interpreter':<{report.WIDTH + 2}}{'import':>12}{'first result':>15}{'memory':>13}")
    for one in found:
        print(report.start_line(one))
    return [vars(one) for one in found]


def others(parts: Collection[str]) -> dict[str, Any]:
    """Measure what is no graph: each prints its own lines, and returns the figures."""
    measures = {"submit": latency.measure, "recovery": recovery.measure, "million": million.measure}
    return {name: take() for name, take in measures.items() if name in parts}


if __name__ == "__main__":
    main()
