"""What integration tests share: an app in force, and gates at which its tasks wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from millstream import Millstream, Settings
from millstream.authoring import current
from millstream.clock import new_id
from tests.integration.results_tasks import gate


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
