"""Celery with a worker of two processes; Valkey keeps its results, and is its broker unless that is RabbitMQ."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from typing import Any, ClassVar

import celery

from benchmarks.canvases import run
from benchmarks.places import BROKER_VARIABLE, new_directory
from benchmarks.scenes import Kit
from benchmarks.shapes import Shape
from benchmarks.system import Once
from tests.lifeline import end_with_parent
from tests.valkey import URL_VARIABLE, CeleryWorker

_PROCESSES = 2
_OPTIONS = ("--pool", "prefork", "--concurrency", str(_PROCESSES))
_QUIET = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
_END_SECONDS = 10.0


class Celery:
    title = f"Celery {version('celery')}, Valkey, prefork {_PROCESSES}"
    notes: ClassVar[dict[str, str]] = {}
    _worker: Any = None

    async def open(self, shape: Shape) -> Once:
        if self._worker is None:
            self._worker = CeleryWorker("benchmarks.peers.celery_app", *_OPTIONS)
            self._worker.__enter__()  # it ends with this process
        from benchmarks.peers.celery_app import step, total  # noqa: PLC0415  it reads where the worker's Valkey is

        async def once() -> None:
            run(shape, celery, step, total)

        return once

    async def close(self) -> None:
        """Leave the worker to the next shape."""

    def begin(self, broker: str, results: str) -> Kit:
        """Start a worker on a broker that no other system uses."""
        os.environ |= {BROKER_VARIABLE: broker, URL_VARIABLE: results}
        from benchmarks.peers import celery_app as app  # noqa: PLC0415  it reads where the broker is

        self._directory = new_directory()
        atexit.register(shutil.rmtree, self._directory)
        atexit.register(self._stop)
        self._start()
        app.step.delay(0).get(timeout=_END_SECONDS)
        return Kit(
            library=celery,
            step=app.step,
            pure=app.step,
            native=app.step,
            total=app.total,
            wait=app.wait,
            waits=200,  # two at a time
            burn=app.burn,
            holds={"here": app.hold},
            slots=_PROCESSES,
            stop=self._stop,
            start=self._start,
        )

    def _start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._worker = subprocess.Popen(  # noqa: S603  its own program
                [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker", *_QUIET, *_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who started it
                preexec_fn=end_with_parent,  # noqa: PLW1509  it holds no lock
            )

    def _stop(self) -> None:
        self._worker.terminate()
        try:
            self._worker.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
