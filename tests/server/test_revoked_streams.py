"""A stream that goes on ends when whoever reads it may not have it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import uuid4

import httpx
import pytest

from tests.server.building import PATIENCE, start, until
from tests.server.running import RunningServer, signed_in

STREAMS = ["/api/v1/build/{}/events", "/api/v1/jobs/{}/events"]


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": "tests.server.build_flows"}


@pytest.fixture
def reader(server: RunningServer) -> Iterator[httpx.Client]:
    """A user of their own, whose rights are taken away."""
    name = f"reader-{uuid4().hex[:8]}"
    server.add_user(name)
    with closing(signed_in(server, name)) as client:
        yield client


def read_until_it_ends(client: httpx.Client, path: str, then: Callable[[], object]) -> str:
    """Read a stream to its end, and do something once a token has come."""
    told, has_spoken = "", False
    with client.stream("GET", path, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_text():
            told += piece
            if not has_spoken and "drop" in told:
                has_spoken = True
                then()
    return told


@pytest.mark.parametrize("stream", STREAMS, ids=["build", "job"])
def test_it_ends_when_the_user_is_not_active_any_more(admin: httpx.Client, reader: httpx.Client, stream: str) -> None:
    user = reader.get("/api/v1/users/whoami").json()["id"]
    job = start(reader, "dripping")
    told = read_until_it_ends(
        reader, stream.format(job), lambda: admin.patch(f"/api/v1/users/{user}", json={"is_active": False})
    )
    assert "drop" in told
    assert '"end"' not in told
    assert admin.post(f"/api/v1/build/{job}/cancel").status_code == 200


def test_it_ends_when_the_user_signs_out(server: RunningServer, reader: httpx.Client) -> None:
    job = start(reader, "dripping")
    with closing(httpx.Client(base_url=server.url, headers=reader.headers, timeout=PATIENCE)) as other:
        told = read_until_it_ends(reader, STREAMS[0].format(job), lambda: other.post("/api/v1/logout"))
    assert '"end"' not in told
    assert reader.get("/api/v1/users/whoami").status_code == 401


def test_it_ends_when_the_key_is_removed_and_others_read_on(
    server: RunningServer, admin: httpx.Client, reader: httpx.Client
) -> None:
    made = reader.post("/api/v1/api_key/", json={"name": "short"}).json()
    job = start(reader, "dripping")
    key = {"x-api-key": made["api_key"]}
    with closing(httpx.Client(base_url=server.url, headers=key, timeout=PATIENCE)) as by_key:
        told = read_until_it_ends(
            by_key, STREAMS[0].format(job), lambda: reader.delete(f"/api/v1/api_key/{made['id']}")
        )
    assert '"end"' not in told
    cancelled = read_until_it_ends(
        reader, STREAMS[0].format(job), lambda: until(lambda: admin.post(f"/api/v1/build/{job}/cancel").is_success)
    )
    assert '"end"' in cancelled
