"""The tests' own PostgreSQL: it can be killed and started again, and leaves nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.services import PostgresServer

ROOT = Path(__file__).resolve().parents[2]


def test_a_test_has_a_database_of_its_own(shared_postgres: PostgresServer, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE thing (id int)")
    with shared_postgres.database() as other, psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('thing')").fetchone() == (None,)


def test_what_was_committed_survives_a_kill(postgres_server: PostgresServer) -> None:
    with postgres_server.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE thing AS SELECT 7 AS id")
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2)
        postgres_server.start()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT id FROM thing").fetchone() == (7,)


def test_it_can_be_started_and_stopped_twice(postgres_server: PostgresServer) -> None:
    port = postgres_server.port
    postgres_server.start()
    postgres_server.stop()
    postgres_server.stop()
    postgres_server.start()
    with psycopg.connect(postgres_server.url) as connection:
        assert connection.info.port == port


def test_a_paused_server_is_closed_all_the_same() -> None:
    server = PostgresServer()
    server.start()
    home = Path(server._home or "")
    server.pause()
    server.close()
    assert not home.exists()


def test_what_a_killed_process_left_behind_is_removed_by_the_next(shared_postgres: PostgresServer) -> None:
    program = """
import os, signal
from tests.services import PostgresServer

server = PostgresServer()
server.start()
print(server._home, server._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    home, pid = done.stdout.split()
    until = time.monotonic() + 120
    while is_running(int(pid)):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert Path(home).exists()
    with PostgresServer() as server:
        assert not Path(home).exists()
        assert server.url
    with psycopg.connect(shared_postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
