"""`python -m benchmarks`: measure millstream beside the floor and its peers, in one run on one machine.

A figure here is never a test: machines differ and drift. Only ratios taken side by side say something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks import measure, report, starts
from benchmarks.own import OWN
from benchmarks.shapes import SHAPES

SYSTEMS = ("millstream", "floor", "in-place", "langgraph", "hamilton")
PARTS = (*(shape.name for shape in SHAPES), "own", "start")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of which the median is taken (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figure there")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parts = options.only or PARTS
    print(f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}; in memory; ", end="")
    print(f"median of {options.rounds} rounds\n")
    raw: dict[str, Any] = {"cpus": os.cpu_count(), "python": platform.python_version(), "shapes": {}}
    workers, missing = measure.start(SYSTEMS)
    try:
        print(report.HEAD)
        for shape in SHAPES:
            if shape.name in parts:
                figures = measure.side_by_side(workers, options.rounds, {"do": "shape", "name": shape.name})
                print(report.shape_lines(shape, figures, missing), flush=True)
                raw["shapes"][shape.name] = [figure.plain() for figure in figures]
        if "own" in parts:
            raw["own"] = own(workers["millstream"], options.rounds)
    finally:
        for worker in workers.values():
            worker.close()
    if "start" in parts:
        raw["start"] = start()
    raw["missing"] = missing
    if options.json:
        options.json.write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def own(worker: measure.Worker, rounds: int) -> dict[str, Any]:
    print("\nWhat it costs us to")
    raw = {}
    for figure_of in OWN:
        (figure,) = measure.side_by_side({"millstream": worker}, rounds, {"do": "own", "name": figure_of.name})
        print(report.own_line(figure_of, figure), flush=True)
        raw[figure_of.name] = figure.plain() | {"count": figure_of.count}
    return raw


def start() -> list[dict[str, Any]]:
    found = starts.measure([name for name in SYSTEMS if name not in ("floor", "in-place")])
    print(f"\n{'A fresh interpreter':<{report.WIDTH + 2}}{'import':>12}{'first result':>15}{'memory':>13}")
    for one in found:
        print(report.start_line(one))
    return [vars(one) for one in found]


if __name__ == "__main__":
    main()
