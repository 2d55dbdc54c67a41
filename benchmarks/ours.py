"""millstream, in memory: each shape is a flow that was drawn once."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from benchmarks.shapes import Shape
from benchmarks.system import Once
from millstream import Flow, Millstream, NodeState, task


@task
async def noop(*_: int) -> int:
    return 1


@task
def plain(*_: int) -> int:
    return 1


@task
async def wait(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


class Ours:
    title = "millstream"
    notes: ClassVar[dict[str, str]] = {}

    async def open(self, shape: Shape) -> Once:
        # An app of its own per round, so that the jobs that it remembers weigh on no other round.
        self._app = app = await Millstream().__aenter__()
        drawn = draw(shape)
        job = await app.submit(drawn)
        expected = await job.result()
        assert expected == (1 if len(shape.leaves) == 1 else dict.fromkeys(expected, 1))
        assert [node.state for node in await job.nodes()] == [NodeState.SUCCEEDED] * len(shape.before)

        async def once() -> None:
            if shape.jobs == 1:
                assert await (await app.submit(drawn)).result() == expected
            else:
                results = await asyncio.gather(*(result(app, drawn) for _ in range(shape.jobs)))
                assert results == [expected] * shape.jobs

        return once

    async def close(self) -> None:
        await self._app.aclose()


async def result(app: Millstream, drawn: Flow) -> object:
    return await (await app.submit(drawn)).result()


def draw(shape: Shape) -> Flow:
    with Flow(shape.name) as drawn:
        place(shape)
    return drawn


def place(shape: Shape) -> list[Any]:
    nodes: list[Any] = []
    work = plain if shape.is_plain else noop
    for sources in shape.before:
        nodes.append(wait(shape.wait_seconds) if shape.wait_seconds else work(*[nodes[source] for source in sources]))
    return nodes
