"""Several server processes on one ledger: what a second one adds, and what it costs that there are several.

The load comes from this machine, so it takes processor time that the servers then lack: with two of them on two
processors the second one adds less than it would on a machine of its own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import appends, report
from benchmarks.flow_servers import Ours
from benchmarks.load import Clients, Place, crowd, percentile
from benchmarks.ours import postgres
from benchmarks.places import new_directory
from benchmarks.serving import waiting
from benchmarks.wire import Client

if TYPE_CHECKING:
    from tests.server.fleet import Fleet, ServerProcess

ROUND_SECONDS = 5.0
CANCELS = 200
READERS = 10_000
BUILDERS = 16
LEDGERS = ("sqlite", "postgresql")
QUEUES = ("redis", "asyncio")
TAKEOVERS = (("on one machine: the lock of the dead tells it", 3, False), ("no lock: the lease of 15 s", 1, True))
_WORKERS = 3
_CONNECTIONS = 4
"""Those of a process to Redis, at most."""


def play(rounds: int) -> dict[str, Any]:
    """Measure all of it, and print what comes out."""
    return {
        "builds": {ledger: builds(ledger, rounds) for ledger in LEDGERS},
        "events": appends.measure(rounds),
        "cancels": {queue: cancels(queue, CANCELS) for queue in QUEUES},
        "takeovers": {title: [takeover(is_apart=apart) for _ in range(times)] for title, times, apart in TAKEOVERS},
        "readers": readers(READERS),
        "memory": memory(),
    }


@contextmanager
def fleet(queue: str, ledger: str, size: int, *changes: str) -> Iterator[Fleet]:
    """Start server processes; their files are on the disk that holds the project."""
    from tests.server.fleet import Fleet  # noqa: PLC0415  nothing else needs it
    from tests.valkey import ValkeyServer  # noqa: PLC0415  as above

    home = new_directory()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        url = f"sqlite:///{home}/ledger.db" if ledger == "sqlite" else stack.enter_context(postgres().database())
        settings = {"database_url": url, "job_queue_type": queue}
        if queue == "redis":
            settings["redis_queue_url"] = stack.enter_context(ValkeyServer()).url
        yield stack.enter_context(Fleet(home, settings, size=size, changes=changes))


def place(fleet: Fleet, process: ServerProcess, flow: str = "") -> Place:
    """Return where a process of a fleet answers its superuser."""
    with fleet.client(process) as client:
        return Place(process.url, client.headers["Authorization"].removeprefix("Bearer "), flow)


async def keep(at: Place, data: dict[str, Any]) -> str:
    """Give a fleet a flow, and return its id."""
    client = Client(at.url, at.token)
    made = await client.ask("POST", "/api/v1/flows/", {"name": "bench", "description": "", "data": data})
    client.close()
    flow_id: str = made.json()["id"]
    return flow_id


# ---------------------------------------------------------------------------------------------------------- builds
def builds(ledger: str, rounds: int) -> dict[str, list[float]]:
    """Let as many clients build on one of two processes, and on both, in turns; return the builds a second."""
    rates: dict[str, list[float]] = {"1 process": [], "2 processes": []}
    with fleet("redis", ledger, 2) as servers, ExitStack() as stack:
        first, second = (place(servers, process) for process in servers.processes())
        flow = asyncio.run(keep(first, Ours.drawn()))
        halves = [Clients(), Clients()]
        for half in halves:
            stack.callback(half.close)
        for turn in range(-1, rounds):
            for title, targets in (("1 process", (first, first)), ("2 processes", (first, second))):
                rate = _built(halves, [Place(at.url, at.token, flow) for at in targets])
                if turn >= 0:
                    rates[title].append(rate)
    print(f"\n{f'Builds a second, {ledger}, Redis':<{report.WIDTH + 2}}{'a second':>12}{'lowest - highest':>24}")
    for title, found in rates.items():
        print(report.rate_line(title, found), flush=True)
    print(f"  the second process: {median(rates['2 processes']) / median(rates['1 process']):.2f} x")
    return rates


def _built(halves: Sequence[Clients], targets: Sequence[Place]) -> float:
    for half, target in zip(halves, targets, strict=True):
        half.ask(target, "direct", BUILDERS // len(halves), ROUND_SECONDS)
    answers = [half.answer() for half in halves]
    return sum((len(answer["waits"]) / answer["seconds"] for answer in answers), 0.0)


# --------------------------------------------------------------------------------------------------------- cancels
def cancels(queue: str, count: int) -> list[float]:
    """Cancel what one process runs by another; return the seconds until who reads it where it runs is told its end."""
    from millstream.server.flows.python import id_of  # noqa: PLC0415  it takes its time to import
    from tests.server.fleet import FLOWS, hold  # noqa: PLC0415  as above

    with fleet(queue, "sqlite", 2) as servers:
        asked, runs = (place(servers, process, id_of(f"{FLOWS}.walk")) for process in servers.processes())
        hold(servers.home, 1)
        waits = asyncio.run(_cancelled(asked, runs, {"home": str(servers.home), "steps": 1, "tokens": 1}, count))
    title = "Redis" if queue == "redis" else "the ledger alone"
    print(f"\nA cancel by another process, {title}: p50 {report.ms(median(waits))}", end=", ")
    print(f"p99 {report.ms(percentile(waits, 99))} ({len(waits)} cancels)", flush=True)
    return waits


async def _cancelled(asked: Place, runs: Place, inputs: dict[str, Any], count: int) -> list[float]:
    here, there, reader = Client(asked.url, asked.token), Client(runs.url, runs.token), Client(runs.url, runs.token)
    waits = []
    for _ in range(count):
        begun = await there.ask("POST", f"/api/v1/build/{runs.flow}/flow", {"inputs": inputs})
        job = begun.json()["job_id"]
        reading = asyncio.create_task(reader.ask("GET", f"/api/v1/build/{job}/events?event_delivery=streaming"))
        told = b""
        while b"token" not in told:
            polled = await there.ask("GET", f"/api/v1/build/{job}/events?event_delivery=polling&wait=0.05")
            told = polled.body
        began = time.perf_counter()
        answer = await here.ask("POST", f"/api/v1/build/{job}/cancel")
        told = (await reading).body
        waits.append(time.perf_counter() - began)
        assert answer.json()["success"]
        assert json.loads(told.strip().splitlines()[-1])["data"]["status"] == "cancelled", told
    for client in (here, there, reader):
        client.close()
    return waits


# -------------------------------------------------------------------------------------------------------- takeover
def takeover(*, is_apart: bool) -> float:
    """Kill the process that runs a build; return the seconds until who reads it elsewhere is told something new.

    Args:
        is_apart: Whether processes hold no lock that tells of their death, as on several machines.
    """
    from tests.server.fleet import WITHOUT_PROOF  # noqa: PLC0415  as above

    with fleet("redis", "sqlite", 2, *([WITHOUT_PROOF] if is_apart else [])) as servers:
        victim, other = servers.processes()
        job = servers.build("speech", victim, home=str(servers.home))
        with (
            servers.client(other) as client,
            client.stream("GET", f"/api/v1/build/{job}/events?event_delivery=streaming") as answer,
        ):
            lines = answer.iter_lines()
            next(line for line in lines if f"@{victim.pid}" in line)
            killed = time.perf_counter()
            victim.kill()
            next(line for line in lines if f"@{other.pid}" in line)
            seconds = time.perf_counter() - killed
    where = "another machine's lease" if is_apart else "one machine's lock"
    print(f"\nA killed process's build goes on for its reader, by {where}: {report.ms(seconds)}", flush=True)
    return seconds


# --------------------------------------------------------------------------------------------- readers and memory
def readers(count: int) -> dict[str, int]:
    """Let so many read builds of one process; return what it takes of Redis's connections and of memory."""
    from tests.valkey import ValkeyServer  # noqa: PLC0415  as above

    with ValkeyServer() as redis, served(job_queue_type="redis", redis_queue_url=redis.url) as server:
        jobs = asyncio.run(waiting(server))
        before, memory_before = _connections(redis), server.memory()
        with crowd(server.place, jobs, count) as opened:
            extra = server.memory() - memory_before
            found = {"readers": opened, "connections": _connections(redis), "before": before, "bytes": extra}
    assert found["connections"] <= _CONNECTIONS, found
    few = f"{found['connections']} connections to Redis, without readers {before}"
    print(f"\n{opened:,} readers on one process: {few}", end="; ")
    print(f"{found['bytes'] / 1e6:,.0f} MB more (PSS), {found['bytes'] / max(opened, 1) / 1e3:.1f} kB each", flush=True)
    return found


def _connections(redis: Any) -> int:
    """Return how many connections Redis has, without the one that asks."""
    with redis.client() as client:
        return len(client.client_list()) - 1


def memory() -> dict[str, int]:
    """Return the memory of a few processes, with and without what they share from before the fork."""
    found = {}
    for title, preload in (("each by itself", "false"), ("with preload", "true")):
        with served(workers=str(_WORKERS), gunicorn_preload=preload) as server:
            found[title] = server.memory()
        print(
            f"Memory of {_WORKERS} processes and their master, {title} (PSS): {found[title] / 1e6:,.0f} MB", flush=True
        )
    return found


@contextmanager
def served(**settings: str) -> Iterator[Ours]:
    """Run `millstream serve`, and sign in."""
    server = Ours(**settings)
    with ExitStack() as stack:
        stack.callback(server.forget)
        server.begin()
        stack.callback(server.end)
        asyncio.run(server.sign_in())
        yield server
