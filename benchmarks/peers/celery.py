"""Celery on a Valkey of its own, which is its broker and keeps its results; a worker with two processes."""

from __future__ import annotations

from importlib.metadata import version
from typing import ClassVar

import celery

from benchmarks.canvases import run
from benchmarks.shapes import Shape
from benchmarks.system import Once
from tests.valkey import CeleryWorker


class Celery:
    title = f"Celery {version('celery')}, Valkey"
    notes: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self._worker = CeleryWorker("benchmarks.peers.celery_app", "--pool", "prefork", "--concurrency", "2")
        self._worker.__enter__()  # it ends with this process

    async def open(self, shape: Shape) -> Once:
        from benchmarks.peers.celery_app import step, total  # noqa: PLC0415  it reads where the worker's Valkey is

        async def once() -> None:
            run(shape, celery, step, total)

        return once

    async def close(self) -> None:
        """Leave the worker to the next shape."""
