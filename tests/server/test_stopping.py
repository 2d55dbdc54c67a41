"""How the server stops while clients hold connections to it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import httpx
import pytest

from millstream.server import protocol
from millstream.settings import Settings
from tests.server.running import PATIENCE, RunningServer


def test_a_request_that_comes_as_the_server_stops_is_answered_and_told_to_be_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", PATIENCE)
    with RunningServer(Settings.of(config_dir=tmp_path)) as server, httpx.Client(timeout=PATIENCE) as client:
        client.get(f"{server.url}/health")
        ending = threading.Thread(target=server.stop)
        ending.start()
        until = time.monotonic() + PATIENCE
        while is_answering(server.url):
            assert time.monotonic() < until
        answer = client.get(f"{server.url}/health")
        assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        ending.join(PATIENCE)
        assert not ending.is_alive(), "nothing is open any more"


def test_a_request_that_outlives_the_grace_is_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come = threading.Event()

    async def wait_for_ever(*_: object) -> None:
        has_come.set()
        await asyncio.Event().wait()

    answers: list[httpx.Response] = []
    with RunningServer(Settings.of(config_dir=tmp_path, drain_grace=0.05)) as server:
        monkeypatch.setattr(server.site.works, "by_name", wait_for_ever)
        url = f"{server.url}/api/v1/run/some"
        asking = threading.Thread(target=lambda: answers.append(httpx.post(url, json={}, timeout=PATIENCE)))
        asking.start()
        assert has_come.wait(PATIENCE)
        server.stop()
    asking.join(PATIENCE)
    (answer,) = answers
    assert (answer.status_code, answer.headers["Retry-After"], answer.headers["Connection"]) == (503, "2", "close")
    assert answer.json()["detail"].startswith("the server stops before this is answered")


def is_answering(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=PATIENCE)
    except httpx.TransportError:  # refused, or reset where it was not taken up any more
        return False
    return True
