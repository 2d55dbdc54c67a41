"""A soak: very many short jobs through a fleet of server processes, of which one is killed each 10 s, and one never."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import httpx

from millstream.testing.history import Submitted, digest
from tests.chaos import probe
from tests.chaos.crowd import Crowd, CrowdPlan, Order
from tests.chaos.fleet_rounds import REDIS_DATABASE, FleetRound, FleetSetup
from tests.chaos.rounds import Outcome
from tests.chaos.wire import RefusedError

KILL_SECONDS = 10.0
SAMPLE_SECONDS = 5.0

_COUNTED = ("active_jobs", "bridge_count", "consumer_wrapper_count", "background_task_count")
_OPEN_JOBS = 48
_TTL_SECONDS = 30
"""How long Redis keeps what has ended: else its memory would grow for as long as the soak lasts."""
_STREAMED = 25
"""Of how many jobs one is a build that somebody looks at, and that is read once more in the end."""


class Slope(NamedTuple):
    """How a figure goes on.

    Attributes:
        mean: Its mean.
        per_minute: By how much it grows each minute.
        error: The standard error of that.
    """

    mean: float
    per_minute: float
    error: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> Slope:
        """Return the slope of figures at times, in seconds, by least squares.

        >>> Slope.of([(0, 5), (60, 7), (120, 9)])
        Slope(mean=7.0, per_minute=2.0, error=0.0)
        """
        count = len(points)
        middle = sum(at for at, _ in points) / count
        mean = sum(figure for _, figure in points) / count
        spread = sum((at - middle) ** 2 for at, _ in points)
        slope = sum((at - middle) * (figure - mean) for at, figure in points) / spread
        rest = sum((figure - mean - slope * (at - middle)) ** 2 for at, figure in points)
        error = math.sqrt(rest / (count - 2) / spread)
        return cls(mean, 60 * slope, 60 * error)


class SoakCrowd(Crowd):
    """Submits so many short jobs, one after the other in each of its slots.

    Args:
        plan: What it does.
        jobs: How many jobs.
    """

    def __init__(self, plan: CrowdPlan, jobs: int) -> None:
        """Ask nothing yet."""
        super().__init__(plan)
        self._numbers = iter(range(jobs))

    async def live(self) -> None:
        """Submit, follow, and read a part of it once more."""
        try:
            await self._settle()
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.open_jobs):
                    group.create_task(self._go_on())
            await self._come_late()
        finally:
            self._wire.close()

    async def _go_on(self) -> None:
        for number in self._numbers:
            if self._plan.stop.exists():
                return
            if number % _STREAMED:
                await self._do_task(number)
            else:
                await self._care(number, asyncio.Semaphore(0))

    def _order(self, number: int, chance: random.Random) -> Order:
        return Order(chance.choice(["build", "run"]), f"order-{number}", "brief", {})

    async def _do_task(self, number: int) -> None:
        """Start a task, and wait for its end; most answers bring it."""
        key, body = f"order-{number}", digest("task", "quick")
        scoped = f"{self._user}/{key}"
        self._log.put(Submitted(job="", outcome="unknown", key=scoped, body=body))
        headers = {"Idempotency-Key": key, "Prefer": "wait=30"}
        given = {"task": "tests.chaos.load.quick"}
        try:
            answer = await self._wire.ask("POST", "/run-task", given, headers=headers, expected=(200, 202))
            job_id = answer.told["task_id"]
            self._log.put(Submitted(job=job_id, key=scoped, body=body))
            if answer.status != 200 or answer.told["status"] != "SUCCESS":
                await self._read(job_id, str(number), random.Random(number))  # noqa: S311  to be told by its number
                await self._look(job_id)
        except RefusedError as error:
            self._refused(error)


class Soak(FleetRound):
    """Plays a soak.

    Args:
        setup: How; the first of its processes is never killed. `kills` counts nothing.
        jobs: How many jobs.
    """

    def __init__(self, setup: FleetSetup, jobs: int) -> None:
        """Prepare; nothing is started."""
        super().__init__(setup)
        self._crowd = CrowdPlan(tuple(self._ports), setup.seed, _OPEN_JOBS, setup.home, setup.home / "stop")
        self._number = jobs
        self._figures: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def _further_variables(self) -> dict[str, str]:
        return super()._further_variables() | {"MILLSTREAM_REDIS_QUEUE_TTL": str(_TTL_SECONDS)}

    def _lives(self) -> Callable[[], None]:
        return partial(_live, self._crowd, self._number)

    def _kill_until_enough(self) -> None:
        begin = time.monotonic()
        kill, look = begin + KILL_SECONDS, begin + SAMPLE_SECONDS
        while any(child.kind == "crowd" for child in self._children):
            self._fill(is_armed=False)
            self._bury()
            now = time.monotonic()
            if now >= kill:
                kill = now + KILL_SECONDS
                pid = self._chance.choice(self._servers()[1:])
                self._kill(pid, is_busy=self._effects.is_busy(pid))
            if now >= look:
                look = now + SAMPLE_SECONDS
                self._sample(now - begin)
            time.sleep(0.05)

    def _sample(self, at: float) -> None:
        held = probe.sample(self._servers()[0])
        figures: dict[str, float] = {
            "memory of the survivor, KiB": held.memory,
            "its descriptors": held.descriptors,
            "its threads": held.threads,
        }
        told = httpx.get(f"http://127.0.0.1:{self._crowd.ports[0]}/api/v1/monitor/job_queue", timeout=60).json()
        figures |= {f"its {name}": told[name] for name in _COUNTED if name in told}
        redis = self._fleet.redis
        if redis is not None:
            with redis.client(REDIS_DATABASE) as client:
                figures["keys in Redis"] = client.dbsize()
                figures["memory of Redis, KiB"] = client.info("memory")["used_memory"] / 1024
        for name, figure in figures.items():
            self._figures[name].append((at, figure))
        jobs = self._witness.count("SELECT count(*) FROM millstream_job")
        line = ", ".join(f"{name} {figure:.0f}" for name, figure in figures.items())
        sys.stdout.write(f"{at:6.0f} s: {jobs} jobs, {self._outcome.kills} kills, {line}\n")
        sys.stdout.flush()

    def slopes(self) -> dict[str, Slope]:
        """Return how each figure went on behind the first third of the time."""
        return {name: Slope.of(points[len(points) // 3 :]) for name, points in self._figures.items()}


def _live(plan: CrowdPlan, jobs: int) -> None:
    asyncio.run(SoakCrowd(plan, jobs).live())


def tell(soak: Soak, outcome: Outcome) -> None:
    """Print what became of a soak."""
    for name, slope in soak.slopes().items():
        sys.stdout.write(f"{name}: {slope.mean:.1f}, {slope.per_minute:+.2f} ± {slope.error:.2f} a minute\n")
    sys.stdout.write(
        f"{outcome.jobs} jobs, {outcome.kills} kills ({outcome.in_a_node} in a node), "
        f"{len(outcome.violations)} violations, {outcome.seconds:.0f} s\n"
    )
    sys.stdout.writelines(f"{' '.join(violation)}\n" for violation in outcome.violations[:20])
