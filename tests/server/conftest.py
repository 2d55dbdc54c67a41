"""A running server for the tests of a module, and clients for who may use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from millstream.settings import Settings
from tests.server.fleet import Fleet, Kind
from tests.server.running import PASSWORD, RunningServer, signed_in


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    """The settings of the module's server; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_settings: dict[str, object]) -> Iterator[RunningServer]:
    """A server on a free port, with a ledger of its own and three users: admin, alice and bob."""
    directory: Path = tmp_path_factory.mktemp("server")
    given: dict[str, object] = {
        "config_dir": directory,
        "superuser": "admin",
        "superuser_password": PASSWORD,
        "auto_login": False,
        "port": 0,
        "drain_grace": 1.0,
        **server_settings,
    }
    with RunningServer(Settings.of(**given)) as running:
        running.add_user("alice")
        running.add_user("bob")
        yield running


@pytest.fixture
def anonymous(server: RunningServer) -> Iterator[httpx.Client]:
    """A client without a credential."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def sign_in(server: RunningServer) -> Iterator[Callable[[str], httpx.Client]]:
    """Makes clients that are signed in, each once for the module."""
    clients: dict[str, httpx.Client] = {}

    def client(name: str) -> httpx.Client:
        if name not in clients:
            clients[name] = signed_in(server, name)
        return clients[name]

    yield client
    for made in clients.values():
        made.close()


@pytest.fixture
def admin(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """A superuser."""
    return sign_in("admin")


@pytest.fixture
def alice(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """A user."""
    return sign_in("alice")


@pytest.fixture
def bob(sign_in: Callable[[str], httpx.Client]) -> httpx.Client:
    """Another user."""
    return sign_in("bob")


@pytest.fixture(
    params=[
        pytest.param(("separate", "asyncio", "sqlite"), id="separate-asyncio-sqlite"),
        pytest.param(
            ("separate", "asyncio", "postgresql"),
            id="separate-asyncio-postgresql",
            marks=[pytest.mark.postgresql, pytest.mark.matrix],
        ),
    ]
)
def combination(request: pytest.FixtureRequest) -> tuple[Kind, str, str]:
    """How server processes are started, what carries their events, and where their ledger lies."""
    found: tuple[Kind, str, str] = request.param
    return found


@pytest.fixture
def fleet(combination: tuple[Kind, str, str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Three server processes on one ledger."""
    kind, queue, ledger = combination
    settings = {"database_url": f"sqlite:///{tmp_path}/ledger.db", "job_queue_type": queue}
    if ledger == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    if queue == "redis":
        settings["redis_queue_url"] = request.getfixturevalue("valkey_url")
    with Fleet(tmp_path, settings, kind=kind) as running:
        yield running
