"""PostgreSQL stalls, forgets to answer, dies or cannot be reached: what ran is recorded once, or goes on elsewhere."""

import asyncio
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from millstream import JobState
from millstream.testing.proxy import HALF_OPEN, PASS, REFUSE, RESET, STALL, Fault, FaultProxy
from tests.chaos.stage import Stage
from tests.services import PostgresServer


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: FaultProxy, url: str) -> str:
    """The ledger's URL, by way of the proxy."""
    return url.replace(str(psycopg.conninfo.conninfo_to_dict(url)["port"]), str(proxy.port))


async def has_begun(stage: Stage, worker: subprocess.Popen[bytes], effects: int) -> None:
    await stage.until(lambda: len(stage.effects(worker)) >= effects, f"the worker did not begin {effects} effects")


@pytest.mark.parametrize("begun", [1, 4, 8])
@pytest.mark.parametrize("fault", [STALL, HALF_OPEN, RESET], ids=lambda fault: fault.kind)
async def test_a_commit_that_nobody_answers_is_made_once(
    stage: Stage, proxy: FaultProxy, through: str, fault: Fault, begun: int
) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start(url=through)
        job = await app.submit("chain", length=8)
        await has_begun(stage, worker, begun)
        proxy.behave_at(b"COMMIT", fault)
        await asyncio.to_thread(proxy.wait)
        proxy.behave(RESET)
        proxy.behave(PASS)
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(worker)
    assert stage.violations() == []


async def test_a_worker_that_nobody_answers_loses_its_jobs_to_another(
    stage: Stage, proxy: FaultProxy, through: str
) -> None:
    async with stage.client() as app:
        stage.witness.install()
        deaf = stage.start(url=through)
        held = stage.hold()
        job = await app.submit("gated", before=2, after=5)
        await has_begun(stage, deaf, 3)
        proxy.behave_at(b"COMMIT", HALF_OPEN)
        held.unlink()
        await asyncio.to_thread(proxy.wait)
        other = stage.start()
        assert await job.wait() is JobState.SUCCEEDED
        proxy.behave(RESET)
        proxy.behave(PASS)
        await stage.until(lambda: stage.is_member(deaf), "it did not come back under another id")
    stage.end(deaf)
    stage.end(other)
    assert stage.violations() == []
    assert {claim.pid for claim in stage.witness.claims()} == {deaf.pid, other.pid}


async def test_a_server_that_cannot_be_reached_for_a_while_is_waited_for(
    stage: Stage, proxy: FaultProxy, through: str
) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start(url=through)
        job = await app.submit("chain", length=8)
        await has_begun(stage, worker, 3)
        proxy.behave(RESET)
        proxy.behave(REFUSE)
        await stage.until(lambda: "the ledger is not available" in stage.said(), "the worker said nothing of it")
        proxy.behave(PASS)
        assert await job.wait() is JobState.SUCCEEDED
    stage.end(worker)
    assert stage.violations() == []


async def test_a_server_that_was_killed_and_started_again_has_everything_once(
    stage: Stage, postgres_server: PostgresServer
) -> None:
    async with stage.client() as app:
        stage.witness.install()
        worker = stage.start()
        jobs = [await app.submit("chain", length=6) for _ in range(10)]
        await has_begun(stage, worker, 20)
        postgres_server.kill()
        postgres_server.start()
        assert [await job.wait() for job in jobs] == [JobState.SUCCEEDED] * 10
    stage.end(worker)
    assert stage.violations() == []
