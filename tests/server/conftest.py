"""A running server for the tests of a module, and clients for who may use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.execution import cancel
from millstream.server import passwords
from millstream.settings import Settings
from tests.server.fleet import Combination, Fleet
from tests.server.running import PASSWORD, PATIENCE, RunningServer, signed_in
from tests.services import PostgresServer
from tests.valkey import ValkeyServer


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    """The settings of the module's server; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module", autouse=True)
def password_cost() -> Iterator[None]:
    """Have hashes cost next to nothing; where passwords are what is tested, a fixture of this name lets them be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_KIBIBYTES", 8)
        patch.setattr(passwords, "_PASSES", 1)
        yield


@pytest.fixture(scope="module", autouse=True)
def cancel_answers() -> Iterator[None]:
    """Have a cancel in this process answer when the job has stopped, and not before, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cancel, "ANSWER_SECONDS", PATIENCE)
        yield


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


# --------------------------------------------------------------------------------------------- several processes
_LEDGERS = {"sqlite": (), "postgresql": (pytest.mark.postgresql,)}
_TRIED = ("separate", "redis", "sqlite")
"""The combination that is always tried; the others are a matrix."""


def _combinations() -> Iterator[Any]:
    for kind in ("separate", "gunicorn"):
        for queue in ("asyncio", "redis"):
            for ledger, marks in _LEDGERS.items():
                one = (kind, queue, ledger)
                matrix = () if one == _TRIED else (pytest.mark.matrix,)
                yield pytest.param(one, id="-".join(one), marks=[*marks, *matrix])


@pytest.fixture(scope="module", params=_combinations())
def combination(request: pytest.FixtureRequest) -> Combination:
    """How server processes are started, what carries their events, and where their ledger lies."""
    return Combination(*request.param)


@pytest.fixture(scope="module")
def fleet_settings() -> dict[str, str]:
    """The settings of the module's fleet; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def module_fleet(
    combination: Combination,
    fleet_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Fleet]:
    """Three server processes on one ledger; for tests that end them, see `fleet`."""
    home = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        given = {"job_queue_type": combination.queue, "database_url": f"sqlite:///{home}/ledger.db"}
        if combination.ledger == "postgresql":
            server: PostgresServer = request.getfixturevalue("shared_postgres")
            given["database_url"] = stack.enter_context(server.database())
        if combination.queue == "redis":
            valkey: ValkeyServer = request.getfixturevalue("shared_valkey")
            given["redis_queue_url"] = stack.enter_context(valkey.database())
        yield stack.enter_context(Fleet(home, given | fleet_settings, kind=combination.kind))


@pytest.fixture
def fleet(module_fleet: Fleet) -> Fleet:
    """The module's server processes; those that the last test ended are started anew."""
    module_fleet.heal()
    return module_fleet
