"""A process that was stopped, and taken for dead, changes nothing when it wakes up."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.stage import Stage


@pytest.fixture
def stage(url: str, tmp_path: Path) -> Iterator[Stage]:
    """As elsewhere, with a lease that a process on a busy machine does not lose by being late."""
    stage = Stage(url, tmp_path, lease=3.0)
    with stage.opened():
        yield stage


async def test_a_process_stopped_at_node_8_records_nothing_once_another_has_taken_over(stage: Stage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        zombie = stage.start(stops="before-effect:9")
        assert await (await app.submit("chain", length=1)).result()  # so that it is not about to make room for its log
        job = await app.submit("chain", length=10)
        await stage.stopped(zombie)
        other = stage.start()
        result = await job.result()
        zombie.send_signal(signal.SIGCONT)
        await stage.until(lambda: stage.is_member(zombie), "the zombie did not come back under another id")
        assert await job.result() == result
    stage.end(zombie)
    stage.end(other)
    assert stage.violations() == []
    assert [claim.pid for claim in stage.witness.claims() if claim.job == job.id] == [zombie.pid, other.pid]
    begun = Counter(effect.node for effect in stage.effects(zombie) if effect.job == job.id)
    assert set(begun.values()) == {1}
    assert len(begun) == 8  # it was in the eighth, a coroutine, which it went on with in vain; it began no other
    assert len(stage.effects(other)) == 3
