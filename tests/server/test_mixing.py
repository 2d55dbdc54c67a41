"""Requests whose clients hang up: whatever they leave half done, nobody gets somebody else's answer."""

from __future__ import annotations

import asyncio
import json
import random
from urllib.parse import urlsplit

import httpx

from millstream.clock import new_id
from tests.server.running import RunningServer

USERS = ("admin", "alice", "bob")
REQUESTS = 600
AT_ONCE = 24
HUNG_UP = 0.3
"""Which share of the clients goes away before its answer is there."""


async def test_an_answer_is_the_callers_own_however_many_hang_up(
    server: RunningServer, admin: httpx.Client, alice: httpx.Client, bob: httpx.Client
) -> None:
    clients = dict(zip(USERS, (admin, alice, bob), strict=True))
    named = {user: f"of {user} {new_id()}" for user in USERS}
    flows = {user: clients[user].post("/api/v1/flows/", json={"name": named[user]}).json()["id"] for user in USERS}
    place, gate, chosen = urlsplit(server.url), asyncio.Semaphore(AT_ONCE), random.Random(15)  # noqa: S311  the same in each run
    answered = []

    async def ask(user: str, *, path: str, hangs_up: bool) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n"
        head += f"Authorization: {clients[user].headers['Authorization']}\r\n\r\n"
        async with gate:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(head.encode())
            await writer.drain()
            if hangs_up:
                for _ in range(chosen.randrange(20)):
                    await asyncio.sleep(0)
                writer.transport.abort()
                return
            told = await reader.read()
            writer.close()
        assert told.startswith(b"HTTP/1.1 200"), told[:200]
        answered.append((user, json.loads(told.partition(b"\r\n\r\n")[2])))

    async with asyncio.TaskGroup() as group:
        for _ in range(REQUESTS):
            user = chosen.choice(USERS)
            path = chosen.choice((f"/api/v1/flows/{flows[user]}", "/api/v1/users/whoami"))
            group.create_task(ask(user, path=path, hangs_up=chosen.random() < HUNG_UP))

    assert len(answered) > REQUESTS / 2
    for user, told in answered:
        assert told.get("username", told.get("name")) in {user, named[user]}
