"""What is measured on workers, by the names that Celery and millstream share; needs nothing but these."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks import canvases
from benchmarks.shapes import BY_NAME

OURS = ("workers-sqlite", "workers-prefork", "workers-postgres")
CELERY = "celery"
ALL = (*OURS, CELERY)

_SECONDS = 120.0
_PROCESSES = 2
_TRIPS = 300
_SUBMITS = 1000
_WAITS = 1000


@dataclass(frozen=True)
class Kit:
    """What a system has to take part.

    Attributes:
        library: Where its `chain`, `group` and `chord` are.
        step: Its task of `canvases.step`.
        pure: The same, as a task that may be computed again.
        native: The same again, as a coroutine function where the system runs these.
        total: Its task of `canvases.total`.
        wait: Its task that waits for `works.WAIT_SECONDS`.
        waits: How many of these it can be asked for in one go.
        burn: Its task of `works.burn`.
        holds: Its tasks of `works.hold`, by where they run.
        slots: How many of these its workers run at once.
        stop: Stops its workers.
        start: Starts them again, and does not wait until they are ready.
    """

    library: Any
    step: Any
    pure: Any
    native: Any
    total: Any
    wait: Any
    waits: int
    burn: Any
    holds: dict[str, Any]
    slots: int
    stop: Callable[[], None]
    start: Callable[[], None]


@dataclass(frozen=True)
class Scene:
    """One figure.

    Attributes:
        name: What it is asked for by.
        title: What the report calls it.
        unit: What `take` returns: seconds; the same of each of many trips; a rate per second; a share of the ideal.
        take: Measures it once, and checks what came out.
        target: What is wanted, in words.
        systems: Who takes part.
        is_long: Whether there is no time for a run before the one that counts.
    """

    name: str
    title: str
    unit: Literal["seconds", "trips", "rate", "share"]
    take: Callable[[Kit], list[float]]
    target: str = ""
    systems: tuple[str, ...] = ALL
    is_long: bool = False


def _canvas(kit: Kit, *, name: str, task: str = "step") -> list[float]:
    step = getattr(kit, task)
    began = time.perf_counter()
    canvases.run(BY_NAME[name], kit.library, step, kit.total)
    return [time.perf_counter() - began]


def _waits(kit: Kit, *, is_group: bool) -> list[float]:
    """Measure as many waits as the system can be asked for, and count them up to all."""
    began = time.perf_counter()
    if is_group:
        results = kit.library.group(kit.wait.s(x) for x in range(kit.waits)).apply_async().get(timeout=_SECONDS)
    else:
        results = [result.get(timeout=_SECONDS) for result in [kit.wait.delay(x) for x in range(kit.waits)]]
    taken = time.perf_counter() - began
    assert results == [x + 1 for x in range(kit.waits)]
    return [taken * _WAITS / kit.waits]


def _spread(kit: Kit, *, count: int, seconds: float) -> list[float]:
    """Return which share of the ideal speed-up over the processes was reached."""
    began = time.perf_counter()
    results = kit.library.group(kit.burn.s(x, seconds) for x in range(count)).apply_async().get(timeout=_SECONDS)
    taken = time.perf_counter() - began
    assert results == [x + 1 for x in range(count)]
    return [count * seconds / _PROCESSES / taken]


def _enqueue(kit: Kit, *, threads: int) -> list[float]:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(kit.step.delay, range(threads)))  # each thread has its connections
        began = time.perf_counter()
        results = list(pool.map(kit.step.delay, range(_SUBMITS)))
        taken = time.perf_counter() - began
    assert [result.get(timeout=_SECONDS) for result in results] == [x + 1 for x in range(_SUBMITS)]
    return [_SUBMITS / taken]


def _trips(kit: Kit) -> list[float]:
    taken = []
    for x in range(_TRIPS):
        began = time.perf_counter()
        assert kit.step.delay(x).get(timeout=_SECONDS) == x + 1
        taken.append(time.perf_counter() - began)
    return taken


def _first_result(kit: Kit) -> list[float]:
    kit.stop()
    result = kit.step.delay(1)
    began = time.perf_counter()
    kit.start()
    assert result.get(timeout=_SECONDS) == 2
    return [time.perf_counter() - began]


def _revoke(kit: Kit, *, where: str) -> list[float]:
    """Revoke what holds a slot, and return when the slot has run something else."""
    with tempfile.TemporaryDirectory() as directory:
        told = [Path(directory, str(slot)) for slot in range(kit.slots)]
        held = [kit.holds[where].delay(str(path)) for path in told]
        until = time.monotonic() + _SECONDS
        while not all(path.exists() for path in told):
            assert time.monotonic() < until
            time.sleep(0.01)
        waiting = kit.step.delay(1)
        time.sleep(0.5)
        assert not waiting.ready()
        began = time.perf_counter()
        held[0].revoke(terminate=True)
        assert waiting.get(timeout=_SECONDS) == 2
        taken = time.perf_counter() - began
        for other in held[1:]:
            other.revoke(terminate=True)
    return [taken]


SCENES = (
    Scene("chain", "chain of 100", "seconds", partial(_canvas, name="canvas-chain"), "5 times as fast as Celery"),
    Scene(
        "chain-pure",
        "chain of 100, pure",
        "seconds",
        partial(_canvas, name="canvas-chain", task="pure"),
        "30 times as fast as Celery",
    ),
    Scene(
        "chain-native",
        "chain of 100, pure, `async def`",
        "seconds",
        partial(_canvas, name="canvas-chain", task="native"),
        "30 times as fast as Celery",
    ),
    Scene("group", "group of 1,000", "seconds", partial(_canvas, name="canvas-group")),
    Scene("chord", "chord of 1,000", "seconds", partial(_canvas, name="canvas-chord"), "50 times as fast as Celery"),
    Scene("chords", "100 chords of 10, all at once", "seconds", partial(_canvas, name="canvas-chords")),
    Scene(
        "chains",
        "50 chains of 10, all at once",
        "seconds",
        partial(_canvas, name="canvas-chains"),
        "3 times as fast as Celery",
    ),
    Scene(
        "chains-pure",
        "50 chains of 10, all at once, pure",
        "seconds",
        partial(_canvas, name="canvas-chains", task="pure"),
        "6 times as fast as Celery",
    ),
    Scene(
        "chains-native",
        "50 chains of 10, all at once, pure, `async def`",
        "seconds",
        partial(_canvas, name="canvas-chains", task="native"),
        "6 times as fast as Celery",
    ),
    Scene(
        "waits",
        "1,000 tasks that wait 0.1 s, each submitted by itself",
        "seconds",
        partial(_waits, is_group=False),
        "under 2 s",
        ("workers-sqlite", "workers-postgres", CELERY),
        is_long=True,
    ),
    Scene(
        "waits-group",
        "1,000 tasks that wait 0.1 s, one group",
        "seconds",
        partial(_waits, is_group=True),
        "under 2 s",
        ("workers-sqlite", "workers-postgres"),
    ),
    Scene(
        "computing",
        "group of 40 that compute 0.1 s each, over 2 processes",
        "share",
        partial(_spread, count=40, seconds=0.1),
        "0.95 of the ideal speed-up",
        ("workers-prefork", "workers-pair", CELERY),
    ),
    Scene(
        "small",
        "group of 1,000 that compute 5 ms each, over 2 processes",
        "share",
        partial(_spread, count=1000, seconds=0.005),
        "0.85 of the ideal speed-up",
        ("workers-prefork", "workers-pair", CELERY),
    ),
    Scene("enqueue", "submit 1,000 tasks, one after the other", "rate", partial(_enqueue, threads=1)),
    Scene("enqueue-16", "submit 1,000 tasks, from 16 threads", "rate", partial(_enqueue, threads=16)),
    Scene(
        "trip",
        "one task, from submit to result",
        "trips",
        _trips,
        "no slower than Celery on SQLite, at most 2 times as slow on PostgreSQL",
    ),
    Scene(
        "revoke",
        "revoke what never ends, until its slot has run something else",
        "seconds",
        partial(_revoke, where="here"),
        systems=("workers-prefork", CELERY),
        is_long=True,
    ),
    Scene(
        "revoke-process",
        "the same, in a process of its own",
        "seconds",
        partial(_revoke, where="process"),
        systems=("workers-prefork",),
        is_long=True,
    ),
    Scene("start", "start a worker, until its first result", "seconds", _first_result, is_long=True),
)

SCENE_BY_NAME = {scene.name: scene for scene in SCENES}
