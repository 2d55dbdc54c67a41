"""What integration tests share: an app in force, gates at which its tasks wait, and workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from millstream import Millstream, Settings
from millstream.authoring import current
from millstream.clock import new_id
from tests.celery_workers import Workers, workers
from tests.integration.results_tasks import gate
from tests.redis_parts import Parts


@pytest.fixture(params=["off", "full"])
def app(request: pytest.FixtureRequest) -> Iterator[Millstream]:
    """An app in force, once in memory and once on a ledger of its own."""
    made = Millstream(settings=Settings(durability=request.param))
    with current.use(made):
        yield made
    asyncio.run(made.aclose())


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a gate, which is open at the end, so that no thread stays behind."""
    made = new_id()
    yield made
    gate(made).set()


@pytest.fixture
def some(settings: dict[str, str], tmp_path: Path) -> Iterator[Workers]:
    """Starts workers by the test file's own `settings`."""
    with workers(tmp_path / "log", settings) as started:
        yield started


@pytest.fixture
async def program(settings: dict[str, str]) -> AsyncIterator[Millstream]:
    """An app by the same settings."""
    async with Millstream(settings=Settings(**settings)) as app:  # type: ignore[arg-type]
        yield app


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    """Several processes' parts in one event log, which end with the test."""
    async with AsyncExitStack() as stack:
        yield Parts(stack)


@pytest.fixture
def job() -> str:
    """The id of a job."""
    return new_id()
