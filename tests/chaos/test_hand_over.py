"""A process that is asked to stop hands on what it cannot end, and leaves no trace of that in the record."""

from millstream import JobState
from tests.chaos.stage import Stage


async def test_a_conducting_flow_that_sleeps_goes_on_elsewhere(stage: Stage) -> None:
    async with stage.client() as app:
        stage.witness.install()
        first = stage.start()
        job = await app.submit("resting")
        async for event in job.events():
            if event.type == "waiting":
                break
        stage.end(first)
        second = stage.start()
        assert await job.wait() is JobState.SUCCEEDED
        assert "node_cancelled" not in [event.type async for event in job.events()]
    stage.end(second)
    assert stage.violations() == []
