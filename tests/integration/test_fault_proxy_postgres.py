"""The fault proxy before a real PostgreSQL: what a client does not learn about its commit."""

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from millstream.testing.proxy import HALF_OPEN, REFUSE, RESET, STALL, Fault, FaultProxy
from tests.services import PostgresServer


@pytest.fixture
def url(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE fact (n int)")
    return postgres_url


@pytest.fixture
def proxy(shared_postgres: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(shared_postgres.port) as proxy:
        yield proxy


def through(proxy: FaultProxy, url: str) -> str:
    return url.replace(str(psycopg.conninfo.conninfo_to_dict(url)["port"]), str(proxy.port))


def facts(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM fact").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(("fault", "committed"), [(HALF_OPEN, 1), (STALL, 0)], ids=["half-open", "stall"])
def test_a_commit_that_is_not_answered_may_have_happened_or_not(
    proxy: FaultProxy, url: str, fault: Fault, committed: int
) -> None:
    failed: list[BaseException] = []

    def commit() -> None:
        try:
            connection.commit()
        except psycopg.OperationalError as error:
            failed.append(error)

    with closing(psycopg.connect(through(proxy, url))) as connection:
        connection.execute("INSERT INTO fact VALUES (1)")
        proxy.behave_at(b"COMMIT", fault)
        committer = threading.Thread(target=commit)
        committer.start()
        proxy.wait()
        assert committer.is_alive()
        if committed:
            while facts(url) == 0:
                pass
        proxy.behave(RESET)
        committer.join(30)
    assert [type(error) for error in failed] == [psycopg.OperationalError]
    assert facts(url) == committed


def test_a_refused_connection_is_an_error_at_once(proxy: FaultProxy, url: str) -> None:
    proxy.behave(REFUSE)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(through(proxy, url))
