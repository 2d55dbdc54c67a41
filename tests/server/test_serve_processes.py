"""`millstream serve` with several processes: the master, its workers, and what becomes of them."""

from __future__ import annotations

import re
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from tests.lifeline import children, descriptors, is_gone, send
from tests.server.fleet import Fleet, build, hold
from tests.server.fleet_readers import Reader
from tests.server.served import PATIENCE, Served, listening
from tests.services import PostgresServer

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
        assert served.process.poll() is None, served.said
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
    links = [link for number, link in descriptors(pid) if number > 2]
    return sorted(re.sub(r"[0-9a-f-]{8,}|\d+", "N", re.sub(r"wgunicorn-\S+", "wgunicorn", link)) for link in links)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with start(directory, MILLSTREAM_DRAIN_GRACE="1") as running:
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
    inherited = {link for _, link in descriptors(master) if "wgunicorn" in link}
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
    until(lambda: ran(directory, "reloaded")[-1] not in before, lambda: served.said)  # it goes on a moment later
    (directory / "reloaded").touch()
    until(lambda: state(served.url, job) == "succeeded", lambda: served.said)


def test_a_port_that_is_taken_is_one_line_of_the_master(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Served(tmp_path, "--workers", "2", "--port", port) as refused:
            assert refused.process.wait(PATIENCE) == 69
            assert refused.said.startswith(f"millstream: cannot listen on 127.0.0.1:{port}: ")
            assert refused.said.count("\n") == 1


# ------------------------------------------------------------------------------------------------ what does not start
@pytest.mark.matrix
@pytest.mark.parametrize(
    ("arguments", "environment", "code", "line"),
    [
        ([], {"MILLSTREAM_WORKER_TIMEOUT": "0"}, 78, "worker_timeout = '0' ("),
        ([], {"MILLSTREAM_DURABILITY": "off"}, 78, "durability = off (environment MILLSTREAM_DURABILITY): a job then"),
        ([], {"GUNICORN_CMD_ARGS": "--bind :80"}, 78, "GUNICORN_CMD_ARGS: --bind cannot be used"),
        ([], {"GUNICORN_CMD_ARGS": "--pid /nowhere/pid"}, 78, "GUNICORN_CMD_ARGS: --pid: "),
        ([], {"MILLSTREAM_IMPORTS": "nowhere"}, 78, "there is no module nowhere (setting imports)"),
        (["-A", "broken"], {}, 2, "broken.py:1: SyntaxError: "),
        (["--reload"], {}, 2, "--reload is for one process, and workers = 2 (environment MILLSTREAM_WORKERS)"),
        ([], {"MILLSTREAM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}, 69, ""),
    ],
)
@pytest.mark.parametrize("preload", ["false", "true"])
def test_what_keeps_it_from_starting_is_one_line_with_its_exit_code(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, line: str, preload: str
) -> None:
    (tmp_path / "broken.py").write_text("def (\n")
    several = {"MILLSTREAM_WORKERS": "2", "MILLSTREAM_GUNICORN_PRELOAD": preload}
    with Served(tmp_path, *arguments, **several, **environment) as refused:
        assert refused.process.wait(PATIENCE) == code, refused.said
        told = [one for one in refused.said.splitlines() if one.startswith("millstream: ") and ONCE[:30] not in one]
        assert [one.startswith(f"millstream: {line}") for one in told] == [True], refused.said
        assert "✓ millstream is ready" not in refused.said
        assert refused.said.startswith(f"millstream: {line}") or "--bind" not in line, "before anything is begun"


@pytest.mark.matrix
def test_a_worker_that_cannot_boot_ends_it_all_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "seldom.py").write_text(
        "from pathlib import Path\nif Path('looked').exists(): raise ValueError('not twice')\nPath('looked').touch()\n"
    )
    with Served(tmp_path, "-A", "seldom", MILLSTREAM_WORKERS="3") as refused:
        assert refused.process.wait(PATIENCE) == 2, refused.said
        assert refused.said.count("ValueError: not twice") == 1
        assert refused.said.splitlines()[-1] == "millstream: seldom.py:2: ValueError: not twice"


# ----------------------------------------------------------------------------------------------------- while it runs
@pytest.mark.matrix
def test_without_preload_a_reload_takes_new_code_and_broken_code_changes_nothing(tmp_path: Path) -> None:
    with start(tmp_path, MILLSTREAM_GUNICORN_PRELOAD="false") as served:
        before = ready(served)
        module = tmp_path / "shop.py"
        module.write_text(SHOP.replace("def wait(", "def wait(("))
        served.process.send_signal(signal.SIGHUP)
        served.find(r"(not reloaded: .*why='?\"?shop.py:\d+: SyntaxError)")
        assert ready(served) == before
        module.write_text(SHOP.replace('"one"', '"two"'))
        served.process.send_signal(signal.SIGHUP)
        until(lambda: set(before).isdisjoint(served.workers()), lambda: served.said)
        ready(served)
        (tmp_path / "now").touch()
        job = submit(served.url, "shop.waiting", name="now")
        until(lambda: state(served.url, job) == "succeeded", lambda: served.said)
        assert httpx.get(f"{served.url}/api/v1/jobs/{job}", timeout=PATIENCE).json()["result"] == "two"
        assert served.stop() == 0


@pytest.mark.matrix
def test_however_many_reloads_are_asked_for_there_are_three_sets_of_workers_at_most(tmp_path: Path) -> None:
    with start(tmp_path, MILLSTREAM_GUNICORN_PRELOAD="false", MILLSTREAM_WORKERS="2") as served:
        ready(served, 2)
        master, most = served.process.pid, 0
        for version in range(12):
            (tmp_path / "shop.py").write_text(SHOP.replace('"one"', f'"{version}"'))
            served.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                most = max(most, len(children(master)))
                time.sleep(0.02)
        (tmp_path / "now").touch()

        def is_last() -> bool:
            nonlocal most
            most = max(most, len(children(master)))
            job = submit(served.url, "shop.waiting", name="now")
            until(lambda: state(served.url, job) == "succeeded", lambda: served.said)
            told = httpx.get(f"{served.url}/api/v1/jobs/{job}", timeout=PATIENCE).json()["result"] == "11"
            return told and len(served.workers()) == 2

        until(is_last, lambda: served.said)
        assert most <= 3 * 2 + 1, "three sets, and the child that looks whether new ones could start"
        assert served.stop() == 0


@pytest.mark.matrix
def test_code_that_is_broken_on_disk_ends_no_server_that_answers(tmp_path: Path) -> None:
    with start(tmp_path, MILLSTREAM_GUNICORN_PRELOAD="false") as served:
        first, *others = ready(served)
        module = tmp_path / "shop.py"
        module.write_text(SHOP.replace("def wait(", "def wait(("))  # it is being deployed just now
        send(signal.SIGKILL, first)
        served.find(r"(a server process cannot start; it is tried again .*shop.py:\d+: SyntaxError)")
        assert httpx.get(f"{served.url}/health", timeout=PATIENCE).status_code == 200
        module.write_text(SHOP)
        assert set(ready(served)) > set(others)
        assert served.stop() == 0


@pytest.mark.matrix
def test_a_master_that_can_open_nothing_more_ends_nobody(tmp_path: Path) -> None:
    with start(tmp_path) as served:
        first, *others = ready(served)
        master = served.process.pid
        before = resource.prlimit(master, resource.RLIMIT_NOFILE)
        resource.prlimit(master, resource.RLIMIT_NOFILE, (3, before[1]))
        served.process.send_signal(signal.SIGHUP)
        served.find(r"(not reloaded: .*Too many open files)")
        send(signal.SIGKILL, first)
        served.find(r"(no server process can be started; it is tried again .*Too many open files)")
        assert httpx.get(f"{served.url}/health", timeout=PATIENCE).status_code == 200
        resource.prlimit(master, resource.RLIMIT_NOFILE, before)
        assert set(ready(served)) > set(others)
        assert served.stop() == 0


@pytest.mark.matrix
def test_workers_have_the_same_things_open_with_and_without_preload(tmp_path: Path) -> None:
    def kinds(directory: Path, preload: str) -> set[str]:
        directory.mkdir()
        with start(directory, MILLSTREAM_GUNICORN_PRELOAD=preload) as served:
            assert state(served.url, submit(served.url, "shop.waiting", name="any")) in {"queued", "running"}
            return set().union(*(opened(worker) for worker in ready(served)))

    with_it, without = kinds(tmp_path / "a", "true"), kinds(tmp_path / "b", "false")
    assert {what.replace("/a/", "/b/") for what in with_it} == without


@pytest.mark.matrix
def test_sigttin_and_sigttou_change_how_many_there_are(tmp_path: Path) -> None:
    with start(tmp_path) as served:
        before = ready(served)
        served.process.send_signal(signal.SIGTTIN)
        assert set(ready(served, 4)) > set(before)
        served.process.send_signal(signal.SIGTTOU)
        until(lambda: len(served.workers()) == 3, lambda: served.said)
        assert served.stop() == 0


@pytest.mark.matrix
def test_a_worker_whose_loop_hangs_is_replaced_and_its_jobs_go_on(tmp_path: Path) -> None:
    with start(tmp_path, MILLSTREAM_WORKER_TIMEOUT="10") as served:
        ready(served)
        job = submit(served.url, "shop.waiting", name="beside")
        (first,) = until(lambda: ran(tmp_path, "beside"), lambda: served.said)
        send(signal.SIGSTOP, first)
        until(lambda: ran(tmp_path, "beside")[1:], lambda: served.said)
        ready(served, but=(first,))
        (tmp_path / "beside").touch()
        until(lambda: state(served.url, job) == "succeeded", lambda: served.said)
        submit(served.url, "shop.hanging")
        served.find(r"(the event loop of a server process hangs)")
        served.find(r'(shop.py", line \d+, in hang)')
        ready(served)


@pytest.mark.matrix
def test_a_long_request_is_no_reason_to_replace_a_worker(tmp_path: Path) -> None:
    with start(tmp_path, MILLSTREAM_WORKER_TIMEOUT="10") as served:
        before = ready(served)
        began = time.monotonic()
        order, patient = {"task": "shop.waiting", "kwargs": {"name": "long"}}, {"Prefer": "wait=25"}
        answer = httpx.post(f"{served.url}/run-task", json=order, headers=patient, timeout=PATIENCE)
        assert time.monotonic() - began > 20, "the request took longer than the time-out"
        assert answer.status_code == 202, "the job still runs"
        assert ready(served) == before


@pytest.mark.matrix
def test_recycled_workers_lose_no_build_and_cancel_none(tmp_path: Path) -> None:
    recycle = {"GUNICORN_CMD_ARGS": "--max-requests 50 --max-requests-jitter 20"}
    given = {"database_url": f"sqlite:///{tmp_path}/ledger.db", "drain_grace": "1", "gunicorn_preload": "true"}
    with Fleet(tmp_path, given, kind="gunicorn", variables=recycle) as fleet:
        held = hold(tmp_path, 2)
        with fleet.client() as pinned:
            credential = {"Authorization": pinned.headers["Authorization"]}
        before = {process.pid for process in fleet.processes()}
        with httpx.Client(base_url=fleet.processes()[0].url, headers=credential, timeout=PATIENCE) as client:
            jobs = [build(client, "walk", home=str(tmp_path)) for _ in range(8)]
            readers = [Reader(fleet, job) for job in jobs]

            def all_new() -> bool:
                for _ in range(10):
                    assert client.get("/health", headers={"Connection": "close"}).status_code == 200
                return before.isdisjoint(process.pid for process in fleet.processes())

            until(all_new, fleet.said)
            held.unlink()
            assert [reader.wait_end().count("end") for reader in readers] == [1] * len(jobs)
            assert {fleet.await_end(job) for job in jobs} == {"succeeded"}


@pytest.mark.matrix
def test_a_build_is_cancelled_by_a_worker_that_does_not_run_it(tmp_path: Path) -> None:
    given = {"database_url": f"sqlite:///{tmp_path}/ledger.db", "gunicorn_preload": "true"}
    with Fleet(tmp_path, given, kind="gunicorn") as fleet:
        hold(tmp_path, 1)
        job = fleet.build("walk", home=str(tmp_path))
        holder = fleet.holder(job)
        readers = [Reader(fleet, job, process) for process in fleet.processes()]
        with fleet.client(fleet.others(holder)[0]) as client:
            told = client.post(f"/api/v1/build/{job}/cancel").json()
        assert told["success"]
        assert [reader.wait_end().seen[-1].data["status"] for reader in readers] == ["cancelled"] * 3


@pytest.mark.matrix
def test_workers_whose_master_was_killed_drain_and_end(tmp_path: Path) -> None:
    with start(tmp_path) as served:
        workers = ready(served)
        served.process.kill()
        until(lambda: all(is_gone(pid) for pid in workers), lambda: served.said)
        assert served.said.count("the master of this server process is gone") == 3


@pytest.mark.matrix
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_kills_all_of_it(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    with start(tmp_path, MILLSTREAM_DRAIN_GRACE="600") as served:
        workers = ready(served)
        submit(served.url, "shop.waiting", name="for-ever")
        until(lambda: ran(tmp_path, "for-ever"), lambda: served.said)
        served.process.send_signal(signum)
        served.find(r"(stopping: )")
        assert served.stop(signum) == code
        until(lambda: all(is_gone(pid) for pid in workers), lambda: served.said)


@pytest.mark.matrix
@pytest.mark.postgresql
def test_on_postgresql_jobs_run_in_all_workers_and_go_on_when_one_is_killed(
    tmp_path: Path, shared_postgres: PostgresServer
) -> None:
    with (
        shared_postgres.database() as url,
        start(tmp_path, MILLSTREAM_DATABASE_URL=url, MILLSTREAM_MAX_SEGMENTS="4") as served,
    ):
        workers = ready(served)
        jobs = [submit(served.url, "shop.waiting", name=f"job-{number}") for number in range(12)]
        names = [f"job-{number}" for number in range(12)]
        until(lambda: all(ran(tmp_path, name) for name in names), lambda: served.said)
        assert {ran(tmp_path, name)[0] for name in names} == set(workers), "as many as each has room for"
        send(signal.SIGKILL, workers[0])
        ready(served, but=(workers[0],))
        for number in range(12):
            (tmp_path / f"job-{number}").touch()
        until(lambda: {state(served.url, job) for job in jobs} == {"succeeded"}, lambda: served.said)
        assert served.stop() == 0
