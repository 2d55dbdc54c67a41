"""The canvases that Celery and millstream run side by side: built anew for each run, as their users do."""

from __future__ import annotations

from typing import Any

from benchmarks.shapes import Shape


def step(x: int = 0) -> int:
    return x + 1


def total(xs: list[int]) -> int:
    return sum(xs)


def built(shape: Shape, library: Any, step: Any, total: Any) -> Any:
    """Return one canvas of a shape, made with the names of a library and the tasks that it made of the functions."""
    match shape.name:
        case "canvas-chain" | "canvas-chains":
            return library.chain(*(step.s() for _ in shape.before))
        case "canvas-group":
            return library.group(step.s(0) for _ in shape.before)
        case _:
            return library.chord([step.s(0) for _ in shape.before[:-1]], total.s())


def expected(shape: Shape) -> Any:
    """Return what such a canvas gives."""
    match shape.name:
        case "canvas-chain" | "canvas-chains":
            return len(shape.before)
        case "canvas-group":
            return [1] * len(shape.before)
        case _:
            return len(shape.before) - 1


def run(shape: Shape, library: Any, step: Any, total: Any) -> None:
    """Hand in all canvases of a shape, wait for their results and check these."""
    canvases = [built(shape, library, step, total) for _ in range(shape.jobs)]
    # A chain is called with its first argument, whoever is first.
    args = (0,) if shape.name in ("canvas-chain", "canvas-chains") else ()
    results = [canvas.apply_async(args) for canvas in canvases]
    assert [result.get(timeout=120) for result in results] == [expected(shape)] * shape.jobs
