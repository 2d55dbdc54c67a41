"""A node that kills every process it runs in fails; the jobs beside it end as if it were not there."""

import asyncio
import subprocess

from millstream import JobState
from tests.chaos.stage import Stage

INNOCENTS = 200


async def test_a_poisonous_node_fails_and_200_bystanders_end_well(stage: Stage) -> None:
    workers: list[subprocess.Popen[bytes]] = []
    deaths = 0
    async with stage.client() as app:
        stage.witness.install()
        poison = await app.submit("poisoned")
        innocents = [await app.submit("chain", length=2) for _ in range(INNOCENTS)]
        ends = asyncio.gather(*(job.wait() for job in (poison, *innocents)))
        while not ends.done():
            deaths += sum(worker.poll() is not None for worker in workers)
            workers = [worker for worker in workers if worker.poll() is None]
            workers.extend(stage.start() for _ in range(2 - len(workers)))
            await asyncio.wait({ends}, timeout=0.05)
        assert await poison.state() is JobState.FAILED
        assert (await poison.record()).reason == "poison"
        assert ends.result()[1:] == [JobState.SUCCEEDED] * INNOCENTS
    for worker in workers:
        stage.end(worker)
    assert 1 <= deaths <= 2 * 2  # from the second death on, it dies in processes of its own
    assert stage.violations() == []
