"""The walk of a guide to several server processes, command by command: as printed, but for host, port and ids.

Three processes, Redis and PostgreSQL, with nothing in the environment but what the guide sets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.test_guide_flow_server import (
    BUILD,
    CANCEL,
    CHAT,
    EVENTS,
    GUIDE_FLOW,
    GUIDE_JOB,
    MONITOR,
    Machine,
    kept,
    signed_in,
)
from tests.lifeline import children
from tests.server.building import AT_REST
from tests.server.fleet import until
from tests.valkey import ValkeyServer

COMPOSE = {
    "DATABASE_URL": "postgresql://langflow:langflow@postgres:5432/langflow",
    "CONFIG_DIR": "/app/langflow",
    "WORKERS": "3",
    "GUNICORN_PRELOAD": "true",
    "JOB_QUEUE_TYPE": "redis",
    "REDIS_QUEUE_URL": "redis://redis:6379/1",
    "SUPERUSER": "admin",
    "SUPERUSER_PASSWORD": "changeme",
    "AUTO_LOGIN": "False",
}
"""The environment of the guide, without the prefix of its names."""

LONG = {
    "name": "long",
    "data": {
        "nodes": [{"id": "long", "data": {"component": "LongRunningTask", "values": {"duration": 600}}}],
        "edges": [],
    },
}

PLAYGROUND = EVENTS  # a browser reads the events of what it builds
STATUS = "curl -s -o /dev/null -w '%{http_code}' "
ADD_USER = """curl -s -X POST http://localhost:7860/api/v1/users/ -H "Authorization: Bearer $TOKEN" \\
-H "Content-Type: application/json" -d '{"username": "ann", "password": "another password"}'
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


@pytest.fixture
def environment(tmp_path: Path, postgres_url: str, shared_valkey: ValkeyServer) -> Iterator[dict[str, str]]:
    """The guide's environment, on this machine's servers."""
    with shared_valkey.database() as redis:
        yield COMPOSE | {"DATABASE_URL": postgres_url, "CONFIG_DIR": str(tmp_path / "data"), "REDIS_QUEUE_URL": redis}


def monitored(machine: Machine, signed: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the monitor, as the guide's loop does, until one of the processes answers something."""

    def found() -> dict[str, Any] | None:
        told: dict[str, Any] = json.loads(machine.run(signed + MONITOR))
        return told if holds(told) else None

    return until(found, machine.said)


@pytest.mark.postgresql
@pytest.mark.parametrize("prefix", ["LANGFLOW_", pytest.param("MILLSTREAM_", marks=pytest.mark.matrix)])
def test_the_walk_passes_as_printed(machine: Machine, environment: dict[str, str], prefix: str) -> None:
    machine.serve(**{f"{prefix}{name}": value for name, value in environment.items()})
    booted = [line for line in machine.said().splitlines() if line.startswith(("[preload]", "✓ Launching"))]
    assert booted == [
        "[preload] initializing services in master",
        "[preload] master preload complete; workers will inherit shared state via COW",
        "✓ Launching millstream...",
    ]
    assert len(until(lambda: found if len(found := children(machine.pid)) == 3 else None)) == 3

    signed = signed_in(machine)
    assert json.loads(machine.run(signed + MONITOR)) == AT_REST

    machine.meant(GUIDE_FLOW, kept(machine, signed, CHAT))
    machine.meant(GUIDE_JOB, json.loads(machine.run(signed + BUILD))["job_id"])
    told = [json.loads(line) for line in machine.run(signed + PLAYGROUND).split("\n\n") if line]
    assert told[-1]["event"] == "end"
    assert told[-1]["data"]["status"] == "succeeded"
    assert any("hello" in json.dumps(event) for event in told if event["event"] == "add_message")

    machine.meant(GUIDE_FLOW, kept(machine, signed, LONG))
    job = json.loads(machine.run(signed + BUILD))
    assert [*job] == ["job_id"]
    machine.meant(GUIDE_JOB, str(UUID(job["job_id"])))
    assert monitored(machine, signed, lambda told: told["active_jobs"] == 1)["backend"] == "redis"
    assert json.loads(machine.run(signed + CANCEL)) == {
        "success": True,
        "message": "Flow build cancelled successfully",
    }
    published = monitored(machine, signed, lambda told: told["cancel_stats"]["published"] == 1)
    assert published["active_jobs"] == 0
    foreign = monitored(machine, signed, lambda told: told["cancel_stats"]["dispatched_foreign"] > 0)
    assert re.findall(r"[a-z_]+", json.dumps(foreign)) == re.findall(r"[a-z_]+", json.dumps(AT_REST)), (
        "the same fields in the same order"
    )

    machine.run(signed + ADD_USER)
    other = signed_in(machine, SIGN_IN_AS_ANN)
    for anybody in ("", other):
        refused = machine.run(anybody + MONITOR.replace("curl -s ", STATUS).replace("| python3 -m json.tool", ""))
        assert refused == "403"
    assert machine.stop() == 0


SIGN_IN_AS_ANN = """TOKEN=$(curl -s -X POST http://localhost:7860/api/v1/login \\
-H "Content-Type: application/x-www-form-urlencoded" \\
-d "username=ann&password=another password" \\
| python3 -c "import sys,json; print(json.load(sys.stdin)['access_token'])")
"""
