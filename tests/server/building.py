"""What the tests of builds have in common."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from typing import Any

import httpx

from millstream.server.flows.python import id_of

PATIENCE = 120.0

AT_REST: dict[str, Any] = {
    "backend": "redis",
    "active_jobs": 0,
    "bridge_count": 0,
    "consumer_wrapper_count": 0,
    "background_task_count": 0,
    "cancel_dispatcher_running": True,
    "cancel_stats": {
        "published": 0,
        "marker_hit": 0,
        "dispatched_owned": 0,
        "dispatched_foreign": 0,
        "publish_errors": 0,
        "dispatcher_reconnects": 0,
        "dispatcher_internal_errors": 0,
        "polling_watchdog_kills": 0,
        "activity_touch_errors": 0,
        "activity_get_errors": 0,
        "activity_parse_errors": 0,
    },
}
"""What the guide says that the monitor answers at first, with Redis."""


def flow_id(name: str) -> str:
    return id_of(f"tests.server.build_flows.{name}")


def another(client: httpx.Client) -> httpx.Client:
    """Return a further client of the same user, with connections of its own."""
    return httpx.Client(base_url=client.base_url, headers=client.headers, timeout=PATIENCE)


def start(
    client: httpx.Client, name: str, *, query: str = "", headers: dict[str, str] | None = None, **inputs: Any
) -> str:
    """Begin a build, and return its job's id."""
    answer = client.post(f"/api/v1/build/{flow_id(name)}/flow{query}", json={"inputs": inputs}, headers=headers)
    assert answer.status_code == 200, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


def lines_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


def sse_in(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the (id, data) of all whole messages."""
    found = []
    for message in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in message.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id"), json.loads(fields["data"])))
    return found


def events(client: httpx.Client, job_id: str, **query: Any) -> list[dict[str, Any]]:
    """Read a build's events to their end."""
    return lines_in(client.get(f"/api/v1/build/{job_id}/events", params=query).text)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def until(what: Callable[[], Any]) -> Any:
    """Wait until something is so, and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.01)
    return found


def streamed(client: httpx.Client, job_id: str, *, after: str | None = None) -> Generator[str]:
    """Yield what a stream of server-sent events gives, piece by piece."""
    headers = {"Accept": "text/event-stream", **({} if after is None else {"Last-Event-ID": after})}
    with client.stream("GET", f"/api/v1/build/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield from answer.iter_text()
