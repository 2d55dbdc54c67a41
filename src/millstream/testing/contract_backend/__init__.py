"""The suite every backend passes: what a user may count on, whatever executes the work.

Example:
    class TestAnyIOSegmentBackend(SegmentBackendContract):
        def make(self, clock, **settings):
            return Millstream(clock=clock, settings=Settings(**settings))
"""

from __future__ import annotations

from millstream.testing.contract_backend.bound import BoundContract
from millstream.testing.contract_backend.cache import CacheContract
from millstream.testing.contract_backend.cancel import CancelContract
from millstream.testing.contract_backend.chance import ChanceContract
from millstream.testing.contract_backend.conducting import ConductingContract
from millstream.testing.contract_backend.context import ContextContract
from millstream.testing.contract_backend.growth import GrowthContract
from millstream.testing.contract_backend.handing_out import HandingOutContract
from millstream.testing.contract_backend.joins import JoinsContract
from millstream.testing.contract_backend.limits import LimitsContract
from millstream.testing.contract_backend.maps import MapsContract
from millstream.testing.contract_backend.pausing import PausingContract
from millstream.testing.contract_backend.processes import ProcessesContract
from millstream.testing.contract_backend.results import ResultsContract
from millstream.testing.contract_backend.retries import RetriesContract
from millstream.testing.contract_backend.shapes import ShapesContract


class SegmentBackendContract(
    ResultsContract,
    JoinsContract,
    RetriesContract,
    LimitsContract,
    CacheContract,
    ContextContract,
    CancelContract,
    MapsContract,
    ShapesContract,
    ConductingContract,
    PausingContract,
    ProcessesContract,
    ChanceContract,
    BoundContract,
    GrowthContract,
    HandingOutContract,
):
    """Subclass it as `Test…` and override `make`; the suite runs in the process of the test."""
