"""The clients of a flow server, in a process of their own: requests as lines of JSON, each answered with one line.

`python -m benchmarks.http_clients`; what it opens for readers stays open until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.flow_servers import SAID
from benchmarks.wire import Client, read_head

_AT_ONCE = 200


async def _streaming(client: Client, flow: str) -> bytes:
    job = await _begin(client, flow, "streaming")
    return (await client.ask("GET", f"/api/v1/build/{job}/events?event_delivery=streaming")).body


async def _polling(client: Client, flow: str) -> bytes:
    job, path, told = await _begin(client, flow, "polling"), "events?event_delivery=polling", b""
    while not _has_ended(told):
        answer = await client.ask("GET", f"/api/v1/build/{job}/{path}")
        if "x-next-cursor" in answer.headers:
            path = f"events?event_delivery=polling&after={answer.headers['x-next-cursor']}"
        told += answer.body
    return told


async def _direct(client: Client, flow: str) -> bytes:
    return (await _build(client, flow, "direct")).body


async def _run(client: Client, flow: str) -> bytes:
    asked = {"input_value": SAID, "input_type": "chat", "output_type": "chat"}
    answer = await client.ask("POST", f"/api/v1/run/{flow}?stream=false", asked)
    answer.json()
    return answer.body


KINDS: Final[dict[str, Callable[[Client, str], Awaitable[bytes]]]] = {
    "streaming": _streaming,
    "polling": _polling,
    "direct": _direct,
    "run": _run,
}


async def _begin(client: Client, flow: str, delivery: str) -> str:
    job: str = (await _build(client, flow, delivery)).json()["job_id"]
    return job


async def _build(client: Client, flow: str, delivery: str) -> Any:
    return await client.ask(
        "POST", f"/api/v1/build/{flow}/flow?event_delivery={delivery}", {"inputs": {"input_value": SAID}}
    )


def _has_ended(told: bytes) -> bool:
    last = told.strip().rpartition(b"\n")[2]
    return bool(last) and json.loads(last)["event"] == "end"


async def load(url: str, token: str, key: str, flow: str, kind: str, clients: int, seconds: float) -> dict[str, Any]:
    """Let so many clients ask one after the other for a time, and return how long each had to wait."""
    do, waits = KINDS[kind], list[float]()
    began = time.perf_counter()

    async def ask() -> None:
        client = Client(url, token, key if kind == "run" else "")
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            told = await do(client, flow)
            waits.append(time.perf_counter() - asked)
            assert SAID.encode() in told, told[:500]
            assert kind == "run" or _has_ended(told), told[-500:]
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(ask())
    return {"waits": waits, "seconds": time.perf_counter() - began}


async def read(url: str, token: str, jobs: list[str], readers: int, opened: list[Any]) -> dict[str, Any]:
    """Open event streams of builds that wait, and keep them; each has been told something when this returns."""
    place, gate = urlsplit(url), asyncio.Semaphore(_AT_ONCE)

    async def open_one(job: str) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 12)
            writer.write(
                f"GET /api/v1/build/{job}/events?event_delivery=streaming HTTP/1.1\r\nHost: {place.netloc}\r\n"
                f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n".encode()
            )
            status, _ = await read_head(reader)
            assert status == 200, status
            await reader.readuntil(b"\n\n")
            opened.append((reader, writer))

    async with asyncio.TaskGroup() as group:
        for number in range(readers):
            group.create_task(open_one(jobs[number % len(jobs)]))
    return {"open": len(opened)}


def main() -> None:
    opened: list[Any] = []
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            match json.loads(line):
                case {"do": "load", **rest}:
                    reply = runner.run(load(**rest))
                case {"do": "read", **rest}:
                    reply = runner.run(read(**rest, opened=opened))
            print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
