"""Figures of ours that have no counterpart: what drawing, handing in and conducting cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.ours import noop, place, result
from benchmarks.shapes import BY_NAME
from benchmarks.system import Once
from millstream import Flow, Millstream, flow
from millstream.settings import Settings


@dataclass(frozen=True)
class Own:
    """One figure: `open` gives what is run, which does `count` of what the title says."""

    name: str
    title: str
    count: int
    open: Callable[[Millstream], Awaitable[Once]]


async def _draw_chain(_app: Millstream) -> Once:
    async def once() -> None:
        assert _chain.draw({}).shape.size == 100

    return once


async def _draw_fan(_app: Millstream) -> Once:
    async def once() -> None:
        assert _fan.draw({}).shape.size == 102

    return once


@flow
def _chain() -> object:
    return place(BY_NAME["chain"])[-1]


@flow
def _fan() -> object:
    return place(BY_NAME["fan"])[-1]


async def _submit_drawing(app: Millstream) -> Once:
    async def once() -> None:
        assert await result(app, _chain) == 1

    return once


async def _one_node(app: Millstream) -> Once:
    with Flow("one") as one:
        noop()

    async def once() -> None:
        assert await result(app, one) == 1

    return once


async def _one_only_submitted(app: Millstream) -> Once:
    with Flow("one") as one:
        noop()

    async def once() -> None:
        for job in [await app.submit(one) for _ in range(100)]:
            assert await job.result() == 1

    return once


async def _one_blocking(_app: Millstream) -> Once:
    with Flow("one") as one:
        noop()
    app = Millstream(
        settings=Settings(durability="off")
    )  # not that of this loop: it lives on a loop in a thread of its own, as for `flow.run()`

    def run() -> None:
        for _ in range(100):
            assert app.run(one) == 1

    async def once() -> None:
        await asyncio.to_thread(run)

    return once


async def _calls_in_turn(app: Millstream) -> Once:
    async def once() -> None:
        assert await result(app, _in_turn) == 100

    return once


async def _calls_gathered(app: Millstream) -> Once:
    async def once() -> None:
        assert await result(app, _gathered) == 100

    return once


@flow
async def _in_turn() -> int:
    return sum([await noop() for _ in range(100)])


@flow
async def _gathered() -> int:
    return sum(await asyncio.gather(*(noop() for _ in range(100))))


OWN = (
    Own("draw-chain", "draw a node of a chain of 100 (`@flow def`)", 100, _draw_chain),
    Own("draw-fan", "draw a node of a fan-out 100 + join (`@flow def`)", 102, _draw_fan),
    Own("drawn-chain", "draw and run a node of a chain of 100", 100, _submit_drawing),
    Own("one", "a flow of one node, from submit to result", 1, _one_node),
    Own("many-ones", "the same, 100 submitted before the first result is asked for", 100, _one_only_submitted),
    Own("one-run", "the same, by the blocking `flow.run()`", 100, _one_blocking),
    Own("calls", "a recorded call of an `async def` flow, one after the other", 100, _calls_in_turn),
    Own("calls-gathered", "a recorded call of an `async def` flow, 100 gathered", 100, _calls_gathered),
)
