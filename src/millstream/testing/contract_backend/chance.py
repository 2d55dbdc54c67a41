"""Random flows of every kind of node, with things taking turns of the event loop, and being cancelled in the middle.

Whatever happens, each job ends, tells the truth, and leaves nothing behind. The seed decides everything but threads.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from millstream import JobState, Skip, Task, ctx, fixed, flow, loop, sleep, task
from millstream.clock import Clock
from millstream.errors import ClosedError
from millstream.testing.contract_backend.stage import BackendCase, Stage, with_settings

_DEEPEST = 2
_HOWS = ["ok"] * 6 + ["fail", "skip", "cancelled", "deaf", "tidy", "rude"]
_END_STATES = {"succeeded", "failed", "skipped", "upstream_failed", "cancelled"}


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@task(retries=1, retry_backoff=5)
async def step(x: Any, turns: int, how: str) -> Any:
    """Take some turns, and end in some way; more than nine turns are endless."""
    try:
        await (_turns(turns) if turns < 9 else asyncio.Event().wait())
        _end(x, how)
    except asyncio.CancelledError:
        if how == "rude":
            raise ValueError(x) from None
        if how != "deaf":
            raise
    finally:
        if how == "tidy":
            await _turns(3)
    return x


@task(retries=1)
def thread_step(x: Any, turns: int, how: str) -> Any:
    """Take a while in a thread, and end in some way."""
    time.sleep(turns / 10_000)
    ctx.emit("token", x)
    _end(x, how)
    return x


def _end(x: Any, how: str) -> None:
    match how:
        case "fail":
            raise ValueError(x)
        case "skip":
            raise Skip
        case "cancelled":
            raise asyncio.CancelledError


@task
async def numbers(count: int) -> list[int]:
    """Return what can be mapped over."""
    return list(range(count))


def draw_any(chance: random.Random, x: Any, depth: int) -> Any:
    """Draw a node of some kind behind `x`."""
    work: Task[..., Any] = chance.choice([step, step, thread_step])
    turns, how = _turns_of(chance), chance.choice(_HOWS)
    options: dict[str, Any] = {"timeout": chance.choice([3, 10])} if turns > 8 or chance.random() < 0.4 else {}
    if chance.random() < 0.1:
        options["soft_timeout"] = 2
    if chance.random() < 0.3:
        options["priority"] = chance.randint(0, 9)
    kind = chance.random()
    if kind < 0.15:
        over = numbers(chance.randint(0, 5))
        options |= {"in_flight": chance.choice([0, 2]), "chunk": chance.choice([1, 2])}
        return work.options(**options).map(over, fixed(turns), fixed(how))
    if kind < 0.5 and depth < _DEEPEST:
        sub = chance.choice([drawn, conducted, conducted])
        return sub(x, chance.random(), depth + 1)
    if kind < 0.6:
        return loop(lambda v: work.options(**options)(v, turns, how), x, until=lambda _: numbers(1))
    if chance.random() < 0.4:
        options["join"] = chance.choice(["all_done", "one_success", "none_failed", "one_done"])
    return work.options(**options)(x, turns, how)


def _turns_of(chance: random.Random) -> int:
    return chance.choice([0, 0, 1, 2, 4, 8, 9])


@flow
def drawn(x: Any, seed: float, depth: int) -> Any:
    """Draw some nodes behind each other."""
    chance = random.Random(seed)  # noqa: S311  no secrets are made of it
    handles = [x]
    for _ in range(chance.randint(1, 5)):
        handles.append(draw_any(chance, chance.choice(handles), depth))
    return handles[-1]


@flow(retries=1)
async def conducted(x: Any, seed: float, depth: int) -> Any:
    """Make some calls, one after the other and at once; wait for them, or not."""
    chance = random.Random(seed)  # noqa: S311  no secrets are made of it
    for _ in range(chance.randint(1, 4)):
        try:
            x = await _calls(chance, x, depth)
        except (ValueError, TimeoutError):
            if chance.random() < 0.3:
                raise
    return x


async def _calls(chance: random.Random, x: Any, depth: int) -> Any:
    kind = chance.random()
    if kind < 0.3:
        return await _call(chance, x, depth)
    if kind < 0.5:
        found = await asyncio.gather(_call(chance, x, depth), _call(chance, x, depth), return_exceptions=True)
        return x if isinstance(found[0], BaseException) else found[0]
    some = [asyncio.ensure_future(_call(chance, x, depth)) for _ in range(chance.randint(1, 3))]
    for call in some:  # how they end is asked for, else asyncio complains
        call.add_done_callback(lambda done: done.cancelled() or done.exception())
    await _turns(chance.randint(0, 12))
    if kind < 0.9:  # else nobody waits for them
        for call in some:
            call.cancel()
            await _turns(chance.randint(0, 2))
        await asyncio.gather(*some, return_exceptions=True)
    return x


def _call(chance: random.Random, x: Any, depth: int) -> Any:
    kind = chance.random()
    turns, how = _turns_of(chance), chance.choice(_HOWS)
    if kind < 0.2 and turns < 9:
        return step(x, turns, how)
    if kind < 0.4:
        return step.options(timeout=chance.choice([1, 4]))(x, turns, how)
    if kind < 0.6:
        return thread_step(x, turns, how)
    if kind < 0.75:
        return sleep(chance.choice([0, 1, 50]))
    sub: Callable[..., Any] = chance.choice([drawn, conducted])
    return sub(x, chance.random(), depth + 1) if depth < _DEEPEST else step(x, 0, "ok")


@flow
def anything(seed: float) -> Any:
    """Two random parts beside each other."""
    chance = random.Random(seed)  # noqa: S311  no secrets are made of it
    return drawn(0, chance.random(), 0), conducted(1, chance.random(), 0)


class ChanceContract(BackendCase):
    """Random flows."""

    @with_settings(max_segments=3)  # so that jobs are queued, too
    @pytest.mark.parametrize("seed", range(30))
    async def test_whatever_happens_each_job_ends_and_tells_the_truth(self, stage: Stage, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secrets are made of it
        jobs = [await stage.submit(anything, chance.random()) for _ in range(6)]

        async def cancel_some() -> None:
            for job in jobs:
                if chance.random() < 0.5:
                    await _turns(chance.randint(0, 60))
                    answer = await job.cancel()
                    assert answer.is_final
                    assert answer is await job.state()

        await stage.drive(asyncio.gather(cancel_some(), *(job.wait() for job in jobs)))
        for job in jobs:
            record = await job.record()
            assert record.reason in (None, "error", "timeout", "cancel"), record.error
            assert record.cancel_requested or record.state is not JobState.CANCELLED
            assert set((await stage.states(job)).values()) <= _END_STATES
        assert await stage.run(step, "and goes on", 1, "ok") == "and goes on"

    async def test_who_closes_the_app_in_the_middle_ends_everything(self, stage: Stage, clock: Clock) -> None:
        for seed in range(10):
            app = self.make(clock, max_segments=3)
            async with app:
                jobs = [await app.submit(anything, seed + number / 10) for number in range(6)]
                ends = [asyncio.ensure_future(job.wait()) for job in jobs]
                await _turns(5 + seed * 7)
            for end in await stage.soon(asyncio.gather(*ends, return_exceptions=True)):
                is_left = self.keeps_jobs and isinstance(end, ClosedError)
                assert is_left or (isinstance(end, JobState) and end.is_final)
