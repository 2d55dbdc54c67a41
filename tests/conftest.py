"""What all tests share: the event loop they run on, the profile of generated tests, and servers of their own."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.celery_workers import Workers, workers
from tests.rabbitmq import RabbitMQServer
from tests.services import PostgresServer
from tests.valkey import ValkeyServer

# What the developer's own shell sets is no test's business, nor that of the programs that tests start.
for _name in [name for name in os.environ if name.upper().startswith(("MILLSTREAM_", "LANGFLOW_"))]:
    del os.environ[_name]

# Machines differ in speed, so no example has a deadline; a build that fails must fail again when it is run again.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

_SERVERS = frozenset({"shared_postgres", "postgres_server"})
"""The fixtures that start one."""


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run one file of tests more at a time than there are CPUs: they wait for half of their time."""
    return (yield) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is given a server; the cases of a parameter that may need one are marked where it is defined."""
    for item in items:
        if not _SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgresql)


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over the thousands of collected tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for each test: unless it says otherwise, its ledger lies there, and no other test sees it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """The server of all tests that leave it running; it is started by the first."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> Iterator[str]:
    """A new database of a test's own."""
    with shared_postgres.database() as url:
        yield url


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server of a test's own, which it may stop, kill and pause."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[ValkeyServer]:
    """The server of all tests that leave it running; it is started by the first."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_url(shared_valkey: ValkeyServer) -> Iterator[str]:
    """An empty database of a test's own."""
    with shared_valkey.database() as url:
        yield url


@pytest.fixture
def valkey_server() -> Iterator[ValkeyServer]:
    """A server of a test's own, which it may stop, kill and pause."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_rabbitmq() -> Iterator[RabbitMQServer]:
    """The server of all tests that leave it running; it is started by the first, which takes some seconds."""
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def rabbitmq_url(shared_rabbitmq: RabbitMQServer) -> Iterator[str]:
    """A virtual host of a test's own."""
    with shared_rabbitmq.vhost() as url:
        yield url


@pytest.fixture
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """A server of a test's own, which it may stop, kill and pause; its start takes some seconds."""
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def redis_workers(tmp_path: Path, valkey_url: str) -> Iterator[Workers]:
    """Starts Celery workers on a ledger in the test's directory, over a Redis-compatible broker."""
    with workers(tmp_path / "workers.log", _celery_settings(tmp_path, valkey_url)) as started:
        yield started


@pytest.fixture
def rabbitmq_workers(tmp_path: Path, rabbitmq_url: str) -> Iterator[Workers]:
    """Starts Celery workers on a ledger in the test's directory, over RabbitMQ."""
    with workers(tmp_path / "workers.log", _celery_settings(tmp_path, rabbitmq_url)) as started:
        yield started


def _celery_settings(directory: Path, broker: str) -> dict[str, str]:
    return {
        "celery_enabled": "true",
        "broker_url": broker,
        "database_url": f"sqlite:///{directory}/ledger.db",
    }


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's ledger lies: nothing is there yet, once in a file and once on a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    found: str = request.getfixturevalue("postgres_url")
    return found
