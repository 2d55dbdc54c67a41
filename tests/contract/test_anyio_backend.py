"""The backend in this process keeps every backend's promises."""

from typing import Any

from millstream import Millstream, Settings
from millstream.clock import Clock
from millstream.testing import TaskBackendContract


class TestAnyIOBackend(TaskBackendContract):
    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(**settings))
