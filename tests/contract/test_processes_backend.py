"""The backend in other processes keeps every backend's promises: the test submits, and a worker executes."""

import pytest

from millstream.testing import SegmentBackendContract
from tests.contract.workers import OverWorkers


@pytest.mark.matrix  # the backend is held to it in one process, and processes that share a ledger by tests/integration
class TestAnyIOWorkers(OverWorkers, SegmentBackendContract):
    pass
