"""How the server stops while clients hold connections to it."""

from __future__ import annotations

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


def is_answering(url: str) -> bool:
    try:
        httpx.get(f"{url}/health", timeout=PATIENCE)
    except httpx.ConnectError:
        return False
    return True
