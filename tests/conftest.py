"""What all tests share: the event loop they run on and the profile of generated tests."""

import os

import pytest
from hypothesis import settings

# Machines differ in speed, so no example has a deadline; a build that fails must fail again when it is run again.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
