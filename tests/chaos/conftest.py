"""The stage on which tests of faults play, on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stage import Stage


@pytest.fixture
def stage(url: str, tmp_path: Path) -> Iterator[Stage]:
    """A new ledger, whose processes have a lease of one second and no proof of life."""
    stage = Stage(url, tmp_path)
    with stage.opened():
        yield stage
