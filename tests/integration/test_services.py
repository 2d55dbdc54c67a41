"""The tests' own PostgreSQL: it can be killed and started again, and leaves nothing behind."""

from pathlib import Path

import psycopg
import pytest

from tests.services import PostgresServer


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
