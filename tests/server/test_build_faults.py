"""What becomes of builds and their streams where the server stops, another process runs them, or the disk is full."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.cli_program import started
from tests.server.building import another, flow_id, lines_in, names, sse_in, start, streamed, until
from tests.server.running import PASSWORD

FLOWS = (Path(__file__).parent / "build_flows.py").read_text(encoding="utf-8")
UNLIMITED = resource.RLIM_INFINITY


class Served:
    """The program `millstream serve`, and who uses it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, timeout=120)
        told = self.client.post("/api/v1/login", data={"username": "admin", "password": PASSWORD})
        assert told.status_code == 200, told.text
        self.client.headers["Authorization"] = f"Bearer {told.json()['access_token']}"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with flows, which all processes of a test share."""
    package = tmp_path / "tests" / "server"
    package.mkdir(parents=True)
    (package / "build_flows.py").write_text(FLOWS, encoding="utf-8")
    return tmp_path


@contextmanager
def served(place: Path, **more: str) -> Iterator[Served]:
    settings = {
        "MILLSTREAM_SUPERUSER": "admin",
        "MILLSTREAM_SUPERUSER_PASSWORD": PASSWORD,
        "MILLSTREAM_AUTO_LOGIN": "false",
        "MILLSTREAM_DRAIN_GRACE": "0",
        "MILLSTREAM_LEASE_SECONDS": "2",
        "PYTHONPATH": str(place),
        **more,
    }
    arguments = ("serve", "--port", "0", "-A", "tests.server.build_flows")
    with started(*arguments, cwd=place, **settings) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready at " in line:
                break
        else:
            raise AssertionError("the server did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # so that it never waits for its log
        running = Served(process, line.rpartition("ready at ")[2].strip())
        with closing(running.client):
            yield running


def read_until(pieces: Iterator[str], what: str) -> str:
    seen = ""
    while what not in seen:
        seen += next(pieces)
    return seen


def test_a_server_that_is_stopped_ends_its_streams_between_two_events_and_the_next_goes_on(place: Path) -> None:
    with served(place) as first:
        job_id = start(first.client, "gated", path=str(place / "gate"))
        with another(first.client) as own, closing(streamed(own, job_id)) as pieces:
            seen = read_until(pieces, "build_start")
            first.terminate()
            seen += "".join(pieces)  # it ends, and does not break off
        assert seen.endswith("\n\n")
        told = sse_in(seen)
        assert "end" not in [data["event"] for _, data in told]
        assert first.process.wait(120) == 0
    (place / "gate").touch()
    with served(place) as second:
        cursor = next(cursor for cursor, _ in reversed(told) if cursor is not None)
        rest = sse_in("".join(streamed(second.client, job_id, after=cursor)))
        assert rest[-1][1]["data"]["status"] == "succeeded"
        whole = lines_in(second.client.get(f"/api/v1/build/{job_id}/events").text)
        assert [data for _, data in (*told, *rest)] == whole
        assert names(whole).count("build_start") == names(whole).count("end") == 1


@pytest.mark.matrix
def test_a_job_that_another_process_runs_is_streamed_too(place: Path) -> None:
    with served(place) as first, served(place) as second:
        job_id = start(first.client, "gated", path=str(place / "gate"))
        with another(second.client) as own, closing(streamed(own, job_id)) as pieces:
            seen = read_until(pieces, "build_start")
            (place / "gate").touch()
            told = [data for _, data in sse_in(seen + "".join(pieces))]
        assert names(told)[-2:] == ["end_vertex", "end"]
        assert told == lines_in(first.client.get(f"/api/v1/build/{job_id}/events").text)


@pytest.mark.matrix
def test_a_job_that_another_process_runs_is_cancelled_from_here(place: Path) -> None:
    with served(place) as first, served(place) as second:
        job_id = start(first.client, "endless")
        until(lambda: "build_start" in _poll(second.client, job_id))
        answer = second.client.post(f"/api/v1/build/{job_id}/cancel")
        assert (answer.status_code, answer.json()["success"]) == (200, True)
        told = lines_in(first.client.get(f"/api/v1/build/{job_id}/events").text)
        assert (names(told).count("end"), told[-1]["data"]["status"]) == (1, "cancelled")


def _poll(client: httpx.Client, job_id: str) -> list[str]:
    return names(lines_in(client.get(f"/api/v1/build/{job_id}/events?event_delivery=polling&wait=0.2").text))


def test_a_killed_servers_build_goes_on_in_another_and_tells_one_end(place: Path) -> None:
    with served(place) as first, served(place) as second:
        job_id = start(first.client, "gated", path=str(place / "gate"))
        until(lambda: "build_start" in _poll(second.client, job_id))
        first.process.kill()
        first.process.wait(120)
        (place / "gate").touch()
        told = lines_in(second.client.get(f"/api/v1/build/{job_id}/events").text)
        assert names(told).count("build_start") == names(told).count("end") == 1
        assert told[-1]["data"]["status"] == "succeeded"


def test_a_build_that_the_disk_has_no_room_for_is_refused_and_made_when_there_is(place: Path) -> None:
    url = f"/api/v1/build/{flow_id('talk')}/flow"
    with served(place) as only:
        before = start(only.client, "talk")
        whole = only.client.get(f"/api/v1/build/{before}/events").text
        resource.prlimit(only.process.pid, resource.RLIMIT_FSIZE, (4096, UNLIMITED))
        refused = until(lambda: _unless_made(only.client.post(url, json={})))
        assert refused.status_code == 507
        assert refused.headers["content-type"] == "application/problem+json"
        assert only.client.get(f"/api/v1/build/{before}/events").text == whole
        resource.prlimit(only.process.pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
        made = until(lambda: _if_made(only.client.post(url, json={})))
        assert names(lines_in(only.client.get(f"/api/v1/build/{made}/events").text))[-1] == "end"


def _unless_made(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == 200 else answer


def _if_made(answer: httpx.Response) -> Any:
    return json.loads(answer.text).get("job_id")
