"""The contract of backends over processes: the test submits, follows and cancels, and workers execute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from millstream import JobState, Millstream, Settings
from millstream.clock import Clock
from millstream.ledger.sql import SqlLedger
from millstream.testing.contract_backend.stage import BackendCase, Stage
from tests.celery_workers import Worker
from tests.shared_clock import SharedClock

_FLOWS = "tests.contract.flows"
_OPEN = tuple(state for state in JobState if not state.is_final)
_CLOCK = """
from pathlib import Path
import millstream.app
from tests.shared_clock import SharedClock
millstream.app.SystemClock = lambda: SharedClock(Path({path!r}))
"""

_OFTEN = """
import millstream.backends.celery.outbox
millstream.backends.celery.outbox.AGAIN_SECONDS = 0.1
"""
"""An hour passes in a moment by that clock: what is due then is looked for more often, too."""


class Site:
    """A ledger, a worker on it, and the clock that both go by; for all tests that want the same settings."""

    def __init__(self, directory: Path, settings: dict[str, Any], broker: Any, **options: Any) -> None:
        self._stack = ExitStack()
        changes = [_CLOCK.format(path=str(directory / "clock"))]
        if broker is not None:
            changes.append(_OFTEN)
            url = self._stack.enter_context(broker())
            settings = {"celery_enabled": True, "broker_url": url, **settings}
        self.settings = {"durability": "full", "database_url": f"sqlite:///{directory}/ledger.db", **settings}
        self.clock = SharedClock(directory / "clock", moves=True)
        self._ledger = SqlLedger(self.settings["database_url"], self.clock)
        self.clock.backlog = self._is_waiting
        # A worker whose pool takes nothing just now sets no timer for what a job waits for.
        self.clock.due_at = self._ledger.due_at
        told = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.settings.items()}
        self.worker = Worker(_FLOWS, directory / "worker.log", told, changes=changes, **options)
        self.worker.wait_ready()

    def close(self) -> None:
        """Kill the worker."""
        self.worker.kill()
        self._stack.close()

    async def _is_waiting(self) -> bool:
        return bool(await self._ledger.waiting(1))


class OverWorkers(BackendCase):
    """What the parts of the suite are mixed with, so that a worker process executes everything.

    Attributes:
        options: How the worker is started.
    """

    keeps_jobs = True
    executes_elsewhere = True
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(scope="class")
    @classmethod
    def sites(cls) -> Iterator[dict[str, Site]]:
        """The sites of this class so far, by their settings."""
        sites: dict[str, Site] = {}
        yield sites
        for site in sites.values():
            site.close()

    @pytest.fixture
    def broker(self) -> Callable[[], AbstractContextManager[str]] | None:
        """What gives the URL of a broker; none without Celery."""
        return None

    @pytest.fixture
    def site(
        self,
        sites: dict[str, Site],
        settings: dict[str, Any],
        broker: Callable[[], AbstractContextManager[str]] | None,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Site:
        """Where this test takes place."""
        key = json.dumps(settings)
        if key not in sites:
            options = dict(self.options)
            if self.executors > 1 and "max_segments" in settings:  # its slots are its processes
                options["concurrency"] = settings["max_segments"]
            sites[key] = Site(tmp_path_factory.mktemp("site"), settings, broker, **options)
        return sites[key]

    @pytest.fixture
    def clock(self, site: Site) -> SharedClock:
        site.clock.begin()
        self.site_now = site
        return site.clock

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        return Millstream(clock=clock, settings=Settings(**{**self.site_now.settings, **settings}), executes=False)

    async def leave(self, stage: Stage) -> None:
        # What went on running here would keep the clock of the tests to come from being moved.
        for record in await stage.app.jobs(states=_OPEN, limit=1000):
            await stage.soon(stage.app.cancel(record.id))
