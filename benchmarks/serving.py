"""Our server beside Langflow: builds, runs and starts in the same rounds, and what 10,000 readers cost ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.environments import NotInstalledError
from benchmarks.flow_servers import FlowServer, Langflow, Ours
from benchmarks.load import Clients, crowd, percentile
from benchmarks.wire import Client

ROUND_SECONDS = 3.0
STARTS = 2
READERS = 10_000
_WAITING_BUILDS = 10
CASES = (("streaming", 1), ("streaming", 16), ("polling", 1), ("polling", 16), ("direct", 1), ("run", 1), ("run", 16))


@dataclass
class Taken:
    """What was measured of one server in one case: every wait in seconds, and for each round how many a second."""

    title: str
    waits: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return {"title": self.title, "rates": self.rates, "p50": median(self.waits), "p95": percentile(self.waits, 95)}


def play(rounds: int) -> dict[str, Any]:
    """Measure both servers, and print a table; where Langflow is not there, ours alone."""
    servers, missing, raw = [Ours(), Langflow()], dict[str, str](), dict[str, Any]()
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.forget)
        print(f"\n{'A flow server':<{report.WIDTH + 2}}{'first answer':>14}{'fastest - slowest':>24}")
        raw["start"] = _starts(servers, missing)
        there = [server for server in servers if server.title not in missing]
        for server in there:
            stack.enter_context(_running(server))
        print(f"\n{'ChatInput to ChatOutput':<{report.WIDTH + 2}}{'p50':>12}{'p95':>12}{'a second':>12}", end="")
        print(f"{'lowest - highest':>24}{'Langflow = 1':>15}")
        for kind, clients in CASES:
            taken = _measured(there, kind, clients, rounds)
            print(_lines(kind, clients, taken, missing), flush=True)
            raw[f"{kind} {clients}"] = [one.plain() for one in taken.values()]
        raw["memory"] = {server.title: server.memory() for server in there}
        for title, bytes_ in raw["memory"].items():
            print(f"{f'memory of {title} (PSS)':<{report.WIDTH + 2}}{bytes_ / 1e6:>9,.0f} MB")
    with ExitStack() as stack:
        ours = Ours()
        stack.callback(ours.forget)
        ours.begin()
        stack.callback(ours.end)
        asyncio.run(ours.sign_in())
        raw["readers"] = readers(ours, READERS)
    return raw | {"missing": missing}


def _starts(servers: Sequence[FlowServer], missing: dict[str, str]) -> dict[str, Any]:
    """Start each a few times on what it has made at its first start, which is not counted; in turns."""
    seconds: dict[str, list[float]] = {server.title: [] for server in servers}
    for turn in range(-1, STARTS):
        for server in servers:
            if server.title in missing:
                continue
            try:
                taken = server.begin()
            except (NotInstalledError, RuntimeError) as why:
                missing[server.title] = str(why)
                continue
            if turn >= 0:
                seconds[server.title].append(taken)
            server.end()
    for server in servers:
        found = seconds[server.title]
        told = f"{report.ms(median(found)):>14}{report.spread(found):>24}" if found else f"  {missing[server.title]}"
        print(f"  {server.title:<{report.WIDTH}}{told}", flush=True)
    return seconds


@contextmanager
def _running(server: FlowServer) -> Iterator[None]:
    server.begin()
    try:
        asyncio.run(server.sign_in())
        yield
    finally:
        server.end()


def _measured(servers: Sequence[FlowServer], kind: str, clients: int, rounds: int) -> dict[str, Taken]:
    taken = {server.title: Taken(server.title) for server in servers}
    asking = Clients()
    for turn in range(-1, rounds):
        shift = max(turn, 0) % len(servers)
        for server in [*servers[shift:], *servers[:shift]]:
            asking.ask(server.place, kind, clients, ROUND_SECONDS if turn >= 0 else ROUND_SECONDS / 3)
            found = asking.answer()
            if turn >= 0:
                taken[server.title].waits += found["waits"]
                taken[server.title].rates.append(len(found["waits"]) / found["seconds"])
    asking.close()
    return taken


def _lines(kind: str, clients: int, taken: Mapping[str, Taken], missing: Mapping[str, str]) -> str:
    what = "/run" if kind == "run" else f"build, {kind}"
    lines = [f"{what}, {clients} client{'s' if clients > 1 else ''}"]
    other = taken.get(Langflow.title)
    for title, one in taken.items():
        rate, spread = median(one.rates), f"{min(one.rates):,.1f} - {max(one.rates):,.1f}"
        line = f"  {title:<{report.WIDTH}}{report.ms(median(one.waits)):>12}{report.ms(percentile(one.waits, 95)):>12}"
        line += f"{rate:>12,.1f}{spread:>24}"
        if other is not None and one is not other:
            line += f"{rate / median(other.rates):>13.1f} x"
        lines.append(line)
    lines += [f"  {title:<{report.WIDTH}}not there: {why}" for title, why in missing.items()]
    return "\n".join(lines)


def readers(server: Ours, count: int) -> dict[str, Any]:
    """Let so many read the events of builds that wait, and measure what that costs; print a line.

    Args:
        server: Ours, running.
        count: The readers; each is a connection of a client process.
    """
    jobs = asyncio.run(waiting(server))
    asking = Clients()
    alone = _load(asking, server)
    before = server.memory()
    with crowd(server.place, jobs, count) as opened:
        extra = server.memory() - before
        beside = _load(asking, server)
    asking.close()
    each = f"{extra / 1e6:,.0f} MB more, {extra / max(opened, 1) / 1e3:.1f} kB each"
    print(f"\n{opened:,} idle readers of server-sent events: {each};", end=" ")
    print(f"a build beside them {report.ms(beside)}, without them {report.ms(alone)}")
    return {"readers": opened, "extra": extra, "alone": alone, "beside": beside}


def _load(asking: Clients, server: Ours) -> float:
    asking.ask(server.place, "streaming", 1, ROUND_SECONDS)
    waits: list[float] = asking.answer()["waits"]
    return median(waits)


async def waiting(server: Ours) -> list[str]:
    """Begin some builds that wait, and return their jobs."""
    client = Client(server.url, server.token)
    flow = await server.keep(client, "waiting", server.waiting())
    asked = [await client.ask("POST", f"/api/v1/build/{flow}/flow", {"inputs": {}}) for _ in range(_WAITING_BUILDS)]
    client.close()
    return [answer.json()["job_id"] for answer in asked]
