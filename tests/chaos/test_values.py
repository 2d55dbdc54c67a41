"""Values of every size come back as they were, also to another process."""

import hashlib

import pytest

from millstream import JobState
from tests.chaos.stage import Stage

MIB = 1 << 20


INLINE = 8192 - 3  # what a string may have whose row takes 8 kB, with its head


@pytest.mark.parametrize("size", [1, INLINE, INLINE + 1, 100_000, MIB, 60 * MIB])
async def test_a_value_comes_back_as_it_was(stage: Stage, size: int) -> None:
    async with stage.client() as app:
        worker = stage.start()
        job = await app.submit("sized", size=size)
        assert await job.result() == [size, hashlib.sha256(b"x" * size).hexdigest()]
        made = next(node.value for node in await job.nodes() if node.path == "make")
    stage.end(worker)
    assert (made == "x" * size) is (size <= INLINE)


async def test_a_value_over_the_limit_fails_its_node(stage: Stage) -> None:
    async with stage.client() as app:
        worker = stage.start()
        job = await app.submit("sized", size=100 * MIB)
        assert await job.wait() is JobState.FAILED
        error = (await job.record()).error
        assert error is not None
        assert (error.node, error.short_type) == ("make", "OutputTooLargeError")
    stage.end(worker)
