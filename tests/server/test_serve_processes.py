"""`millstream serve` with several processes: the master, its workers, and what becomes of them."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from tests.lifeline import send
from tests.server.served import PATIENCE, Served, listening

T = TypeVar("T")

SHOP = """
import asyncio
import os
from pathlib import Path
from millstream import flow, task

VERSION = "one"

@task
async def wait(name: str):
    with Path("ran").open("a") as ran:
        ran.write(f"{name} {os.getpid()}\\n")
    while not Path(name).exists():
        await asyncio.sleep(0.02)
    return VERSION

@flow
def waiting(name: str):
    return wait(name)

@task
async def hang():
    import time
    time.sleep(600)

@flow
def hanging():
    return hang()
"""
SETTINGS = {"MILLSTREAM_WORKERS": "3", "MILLSTREAM_GUNICORN_PRELOAD": "true", "MILLSTREAM_IMPORTS": "shop"}
ONCE = "millstream: job_queue_type = asyncio with 3 processes: "


def until(what: Callable[[], T | None], told: Callable[[], str]) -> T:
    """Wait until something is so, and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, told()
        time.sleep(0.02)
    return found


def submit(url: str, task: str, **inputs: object) -> str:
    answer = httpx.post(f"{url}/run-task", json={"task": task, "kwargs": inputs}, timeout=PATIENCE)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["task_id"].partition(".")[0]
    return job


def state(url: str, job: str) -> str:
    told: str = httpx.get(f"{url}/api/v1/jobs/{job}", timeout=PATIENCE).json()["state"]
    return told


def ran(directory: Path, name: str) -> list[int]:
    """Return in which processes a waiting task has begun."""
    path = directory / "ran"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [int(pid) for who, pid in map(str.split, lines) if who == name]


def ready(served: Served, count: int = 3, but: tuple[int, ...] = ()) -> list[int]:
    """Wait until so many workers answer, and return them: they are there, and have said so."""

    def found() -> list[int] | None:
        said = {int(pid) for pid in re.findall(r"a server process is ready.*?pid=(\d+)", served.said)}
        pids = [pid for pid in served.workers() if pid in said and pid not in but]
        return pids if len(pids) == count else None

    return until(found, lambda: served.said)


def start(directory: Path, *arguments: str, **environment: str) -> Served:
    (directory / "shop.py").write_text(SHOP)
    told = {"MILLSTREAM_LOG_LEVEL": "info", "NO_COLOR": "1", **SETTINGS, **environment}
    return Served(directory, *arguments, **told)


def opened(pid: int) -> list[str]:
    """Return what a process has open beside its standard streams, without numbers that tell one from another."""
    links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if int(one.name) > 2]
    return sorted(re.sub(r"[0-9a-f-]{8,}|\d+", "N", re.sub(r"wgunicorn-\S+", "wgunicorn", link)) for link in links)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with start(directory) as running:
        yield running
        assert running.stop() == 0
        assert running.said.count("stopping: ") == 1


def test_it_says_once_how_it_boots(served: Served) -> None:
    ready(served)
    lines = [line for line in served.said.splitlines() if not re.match(r"\d\d:\d\d:\d\d \[", line)]
    assert [line.partition(", with the password")[0] if "password" in line else line for line in lines] == [
        "[preload] initializing services in master",
        "first start: the superuser is admin",
        "[preload] master preload complete; workers will inherit shared state via COW",
        next(line for line in lines if line.startswith(ONCE)),
        "✓ Launching millstream...",
        f"✓ millstream is ready at {served.url}",
    ]
    assert "gunicorn" not in served.said


def test_the_master_has_nothing_that_a_worker_could_inherit(served: Served) -> None:
    workers, master = ready(served), served.process.pid
    assert len(list(Path(f"/proc/{master}/task").iterdir())) == 1
    assert [what for what in opened(master) if "wgunicorn" not in what] == ["socket:[N]"], "the listener"
    assert [listening(pid) for pid in (master, *workers)] == [1, 1, 1, 1]
    inherited = {str(one.readlink()) for one in Path(f"/proc/{master}/fd").iterdir() if "wgunicorn" in str(one.readlink())}
    assert len(inherited) == 3, "a sign of life of each"


def test_what_a_killed_worker_ran_goes_on_in_another(served: Served, directory: Path) -> None:
    before = ready(served)
    job = submit(served.url, "shop.waiting", name="killed")
    (first,) = until(lambda: ran(directory, "killed"), lambda: served.said)
    assert first in before
    send(signal.SIGKILL, first)
    second = until(lambda: ran(directory, "killed")[1:], lambda: served.said)[0]
    assert second != first
    ready(served)
    (directory / "killed").touch()
    until(lambda: state(served.url, job) == "succeeded", lambda: served.said)
    assert served.said.count("a server process was killed") == 1


def test_a_reload_refuses_no_request_and_loses_no_job(served: Served, directory: Path) -> None:
    before = ready(served)
    job = submit(served.url, "shop.waiting", name="reloaded")
    until(lambda: ran(directory, "reloaded"), lambda: served.said)
    served.process.send_signal(signal.SIGHUP)
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:

        def gone() -> bool:
            assert httpx.get(f"{served.url}/health", timeout=PATIENCE).status_code == 200
            assert client.get("/health").status_code == 200
            return set(before).isdisjoint(served.workers())

        until(gone, lambda: served.said)
    ready(served)
    assert ran(directory, "reloaded")[-1] not in before
    (directory / "reloaded").touch()
    until(lambda: state(served.url, job) == "succeeded", lambda: served.said)
