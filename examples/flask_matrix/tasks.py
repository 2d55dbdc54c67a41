"""The tasks of the matrix service, and the two canvases that it starts."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from flask import current_app

from millstream import chain, chord
from millstream.compat.result import AsyncResult
from millstream.integrations.flask import FlaskMillstream

ext = FlaskMillstream()


@ext.task
def multiply(size: int, seed: int | None = None) -> dict[str, Any]:
    """Multiply two random matrices; the same seed gives the same ones."""
    started = time.monotonic()
    time.sleep(current_app.config["MATRIX_PAUSE"])
    random = np.random.default_rng(seed)
    product = random.random((size, size)) @ random.random((size, size))
    return {
        "size": size,
        "duration": time.monotonic() - started,
        "result_shape": list(product.shape),
        "trace": float(product.trace()),
    }


@ext.task
def summarise(products: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """Count the products; one alone comes as it is, several come as a list."""
    summary = products if isinstance(products, list) else [products]
    return {"count": len(summary), "summary": summary}


def start_one(size: int, seed: int | None = None) -> AsyncResult:
    """Multiply once, then sum up."""
    return chain(multiply.s(size, seed), summarise.s())()


def start_many(sizes: list[int], seed: int | None = None) -> AsyncResult:
    """Multiply side by side, then sum up when all are there."""
    seeds = [None if seed is None else seed + place for place in range(len(sizes))]
    return chord([multiply.s(size, one) for size, one in zip(sizes, seeds, strict=True)])(summarise.s())
