"""Matrix products in processes, one or many at once, and a summary of them.

    millstream run examples/matrix.py:matrix -i size=300
    millstream run examples/matrix.py:bulk -i sizes='[100, 200, 300]'
    python examples/matrix.py

`matrix` is a chain: the product's result goes to the summary. `bulk` is a fan-out and a join: the products run side by
side, and the summary starts when all are done. As a script, it calls the same two as Celery's canvas, by `chain` and
`chord`, with no broker and no worker to start. With numpy installed the products take milliseconds; without it they are
computed in plain Python, and sizes above some hundreds take their time.
"""

from __future__ import annotations

import random
import time
from typing import Any, TypedDict

from millstream import chain, chord, ctx, flow, task

try:
    import numpy as np
except ImportError:
    np = None


class Product(TypedDict):
    """What is kept of one product."""

    size: int
    duration: float
    result_shape: list[int]


class Summary(TypedDict):
    """All products together."""

    count: int
    total_duration: float
    summary: list[Product]


@task(run_in="process")
def matrix_multiply(size: int) -> Product:
    """Multiply two random square matrices."""
    if size < 1:
        raise ValueError(f"a matrix has at least one row, not {size}")
    started = time.perf_counter()
    shape = _shape_with_numpy(size) if np else _shape_without(size)
    duration = time.perf_counter() - started
    ctx.log(f"multiplied {size} x {size}", seconds=round(duration, 4))
    return {"size": size, "duration": duration, "result_shape": shape}


def _shape_with_numpy(size: int) -> list[int]:
    chance = np.random.default_rng()
    return list((chance.random((size, size)) @ chance.random((size, size))).shape)


def _shape_without(size: int) -> list[int]:
    left, right = ([[random.random() for _ in range(size)] for _ in range(size)] for _ in range(2))  # noqa: S311  sums
    columns = list(zip(*right, strict=True))
    product = [[sum(map(float.__mul__, row, column)) for column in columns] for row in left]
    return [len(product), len(product[0])]


@task
def log_matrix_summary(products: Product | list[Product]) -> Summary:
    """Sum up one product, or many."""
    many = products if isinstance(products, list) else [products]
    ctx.log(f"{len(many)} matrix products")
    return {"count": len(many), "total_duration": sum(product["duration"] for product in many), "summary": many}


@flow
def matrix(size: int = 100) -> Any:
    """Multiply two matrices, then sum up: a chain."""
    return log_matrix_summary(matrix_multiply(size))


@flow
def bulk(sizes: tuple[int, ...] = (50, 100, 150)) -> Any:
    """Multiply many pairs of matrices side by side, then sum up."""
    return log_matrix_summary(matrix_multiply.map(sizes))


if __name__ == "__main__":
    one = chain(matrix_multiply.s(100), log_matrix_summary.s())()
    many = chord([matrix_multiply.s(size) for size in (50, 100)])(log_matrix_summary.s())
    print(one.get(timeout=60))
    print(many.get(timeout=60))
