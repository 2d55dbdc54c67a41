"""The processes that share a server's ledger, and what waits for them."""

import asyncio
import os
from pathlib import Path

import httpx

from millstream import Millstream, Settings, task
from tests.server.running import RunningServer


@task(name="elsewhere.only")
def only() -> None:
    """Stand for a task that no process of the test knows."""


def test_processes_are_told_with_their_heartbeats_and_queues_with_their_depth(
    server: RunningServer, admin: httpx.Client
) -> None:
    async def submit(directory: Path) -> None:
        async with Millstream(settings=Settings(config_dir=directory), executes=False) as app:
            for queue in (None, "slow", "slow"):
                await app.submit(only, queue=queue)

    directory = server.site.settings.config_dir
    assert directory is not None
    asyncio.run(submit(directory))
    told = admin.get("/api/v1/processes").json()
    (mine,) = [process for process in told["processes"] if process["pid"] == os.getpid() and process["executes"]]
    assert set(mine) == {"id", "host", "pid", "started_at", "executes", "lease_seconds", "segments"}
    assert 0 < mine["lease_seconds"] <= server.site.settings.lease_seconds
    assert told["queues"] == [{"queue": "celery", "depth": 1}, {"queue": "slow", "depth": 2}]


def test_only_superusers_see_them(alice: httpx.Client, anonymous: httpx.Client) -> None:
    assert alice.get("/api/v1/processes").status_code == 403
    assert anonymous.get("/api/v1/processes").status_code == 401
