"""The flows that run while processes are killed. Each task tells an effect log outside of the system what it did."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millstream import approval, ctx, flow, sleep, task
from millstream.testing.history import Began, Finished, ObservationLog, digest, now

EFFECTS = "CHAOS_EFFECTS"
"""The variable that names the effect log."""

HOLD = "hold"
"""While a file of this name lies beside the effect log, what is to be held waits in its middle."""

CLAIMER = "CHAOS_CLAIMER"
"""The variable that names the process which claims; pool processes inherit it."""

PURE = "pure:"
"""Begins the marks of effects that need not be committed before their successors start."""

MARK = re.compile(rf"({PURE})?\d+-\d+-\d+")
"""What a mark looks like: other texts have hyphens, too."""

_numbers = itertools.count()


class FlakyError(Exception):
    """Raised by attempts that are to fail; its message is the effect's mark."""


@contextmanager
def effect(given: Sequence[str] = (), *, most: int = 1, is_once: bool = False, prefix: str = "") -> Iterator[str]:
    """Tell the effect log what is begun and finished in this block; gives the mark of the effect."""
    log, pid = ObservationLog(os.environ[EFFECTS]), int(os.environ.get(CLAIMER) or os.getpid())
    mark = f"{prefix}{os.getpid()}-{time.monotonic_ns()}-{next(_numbers)}"
    reads = tuple(one for one in given if "-" in one and not one.startswith(PURE))  # people decide without marks
    log.put(
        Began(
            job=ctx.job_id,
            node=ctx.node,
            attempt=ctx.attempt,
            pid=pid,
            mark=mark,
            most=most,
            is_once=is_once,
            reads=reads,
            at=now(),
        )
    )
    yield mark
    log.put(Finished(job=ctx.job_id, mark=mark, pid=pid))


@task
async def step(*given: str, seconds: float = 0.01) -> str:
    with effect(given) as mark:
        await asyncio.sleep(seconds)
    return mark


@task
def blocking(*given: str, seconds: float = 0.02) -> str:
    with effect(given) as mark:
        time.sleep(seconds)
    return mark


@task(run_in="process")
def apart(*given: str) -> str:
    with effect(given) as mark:
        time.sleep(0.02)
    return mark


@task(effect="pure")
async def pure(*given: str) -> str:
    with effect(given, prefix=PURE) as mark:
        await asyncio.sleep(0.005)
    return mark


@task(effect="once")
async def once(*given: str) -> str:
    with effect(given, is_once=True) as mark:
        await asyncio.sleep(0.01)
    return mark


@task
def join(parts: list[str]) -> str:
    with effect(parts) as mark:
        time.sleep(0.005)
    return mark


@task
async def item(number: int) -> str:
    with effect() as mark:
        await asyncio.sleep(0.005 * (number % 4))
    return mark


def _flaky(given: Sequence[str]) -> str:
    with effect(given, most=3) as mark:
        pass
    if ctx.attempt < 3:
        raise FlakyError(mark)
    return mark


@task(retries=2)
async def flaky(*given: str) -> str:
    return _flaky(given)


@task(retries=2, retry_backoff=0.05, retry_jitter=False)
def flaky_later(*given: str) -> str:
    return _flaky(given)


@task
async def failing(*given: str) -> str:
    with effect(given) as mark:
        pass
    raise FlakyError(mark)


@task(run_in="worker")
async def far(*given: str, seconds: float = 0.01) -> str:
    return await step.fn(*given, seconds=seconds)


@task(run_in="worker")
def far_blocking(*given: str) -> str:
    return blocking.fn(*given)


@task(run_in="worker", retries=2, retry_backoff=0.05, retry_jitter=False)
async def far_flaky(*given: str) -> str:
    return _flaky(given)


@task(run_in="worker", effect="once")
def far_once(*given: str) -> str:
    with effect(given, is_once=True) as mark:
        time.sleep(0.01)
    return mark


_SCATTERED = (step, blocking, flaky, far, far, far_blocking, far_blocking, far_flaky, far_once)


@flow
def chain(length: int = 5) -> Any:
    given = step(seconds=0.03)
    for number in range(length - 1):
        given = blocking(given) if number % 2 else step(given)
    return given


@flow
def fan(width: int = 6) -> Any:
    first = step()
    return join([(blocking if number % 2 else step)(first) for number in range(width)])


@flow
def mapped(width: int = 12) -> Any:
    return join(item.map(list(range(width))))


@flow
def retried() -> Any:
    return step(flaky_later(flaky(step())))


@flow
def napping(seconds: float = 1.1) -> Any:
    first = step()
    nap = sleep(seconds)
    first >> nap
    last = step(first)
    nap >> last
    return last


@flow
def purely(length: int = 6) -> Any:
    given = pure()
    for _ in range(length - 1):
        given = pure(given)
    return step(given)


@flow
def sealed() -> Any:
    return step(once(step()))


@flow
def spread() -> Any:
    return join([apart(), step()])


@flow
def broken() -> Any:
    return step(failing(step()))


@flow
async def conducted(turns: int = 3) -> Any:
    given = await step()
    for _ in range(turns):
        given, other = await asyncio.gather(step(given), blocking(given))
        given = await step(given, other)
    return [await once(given)]  # a list: the mark is that of the call, not of the flow


@flow
async def resting() -> Any:
    first = await step()
    await sleep(1.1)
    return [await step(first)]


@task
def deadly(_given: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def poisoned() -> Any:
    return deadly(step())


@flow
def scattered(seed: int, size: int = 12) -> Any:
    """A random graph, of which workers run about half."""
    chance = random.Random(seed)  # noqa: S311  it is to be the same each time it is drawn
    made: list[Any] = []
    for _ in range(size):
        given = chance.sample(made, min(len(made), chance.randint(0, 3)))
        made.append(chance.choice(_SCATTERED)(*given))
    return join(made[-4:])


@flow
async def gives_up(turns: int = 3) -> Any:
    """Wait for the first of some calls, and give up the others wherever they run."""
    given = await far()
    for _ in range(turns):
        calls = [asyncio.ensure_future(far(given, seconds=0.02 * number)) for number in range(1, 5)]
        given = await calls[0]
        for call in calls[1:]:
            call.cancel()
        await asyncio.wait(calls)
    return [given]


@flow
def slow() -> Any:
    return step(seconds=60.0)


@task
def echo(text: str) -> str:
    return text


@flow
def echoed(text: str) -> Any:
    return echo(text)


@task
def make(size: int) -> str:
    return "x" * size


@task
def measure(text: str) -> list[object]:
    return [len(text), hashlib.sha256(text.encode()).hexdigest()]


@flow
def sized(size: int) -> Any:
    return measure(make(size))


async def _let_go() -> None:
    """Wait while the test holds what runs."""
    while Path(os.environ[EFFECTS]).with_name(HOLD).exists():  # noqa: ASYNC110  another process lets go
        await asyncio.sleep(0.01)


@task
async def held(*given: str) -> str:
    with effect(given) as mark:
        await _let_go()
    return mark


@flow
def gated(before: int = 1, after: int = 1) -> Any:
    """Wait in a node while the test holds it, with some steps before and after."""
    given: tuple[Any, ...] = ()
    steps: list[Any] = [*[step] * before, held, *[step] * after]
    for one in steps:
        given = (one(*given),)
    return given[0]


@task
async def chatty(*given: str, seconds: float = 0.01) -> str:
    """Say under way, in events that are not kept, whose effect this is."""
    with effect(given) as mark:
        for _ in range(6):
            ctx.log(mark)
            await asyncio.sleep(seconds)
    return mark


@flow
def talking() -> Any:
    return step(chatty(chatty(step())))


@flow
def asked() -> Any:
    """Wait for somebody's answer between two steps."""
    first, answer = step(), approval("go on?")
    first >> answer
    last = step(first)
    answer >> last
    return last


@flow
def hooked(payload: Any) -> Any:  # noqa: ARG001  it only has to be taken
    return step(step())


@flow
def listed(width: int = 6) -> Any:
    """Be part of a flow document; a list, since the value is the effect of a node in it."""
    return [join(item.map(list(range(width))))]


@task
async def noted(text: Any = None) -> list[str]:  # noqa: ARG001  as above
    """Have an effect in a flow document; a list, as above: other nodes pass it on."""
    with effect() as mark:
        await asyncio.sleep(0.01)
    return [mark]


@task
def tossed(text: Any = None) -> bool:
    """Say whether a loop has turned often enough: what the first process to ask is told counts for all."""
    return digest(text) < "6"


@task
async def quick() -> str:
    with effect() as mark:
        pass
    return mark


@flow
def brief() -> Any:
    return quick()


@task(retries=1, retry_backoff=0.05, retry_jitter=False)
async def stumble() -> str:
    with effect(most=2) as mark:
        await _let_go()
    if ctx.attempt == 1:
        raise FlakyError(mark)
    return mark


@flow
def stumbling() -> Any:
    return stumble()
