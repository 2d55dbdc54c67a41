"""The example examples/flask_matrix runs as its README says: in one process, and with a broker and workers to kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import gethostname
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]  # as in settings

from tests.celery_workers import environment
from tests.lifeline import die_with_parent, free_port

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flask_matrix"
SECONDS = 120
CELERY = ["celery", "-A", "app.celery", "worker", "--concurrency=2", "--loglevel=info"]
OURS = ["flask", "millstream", "worker"]


class Service:
    """The service in a directory of its own, with a Flask server and the workers that a test starts."""

    def __init__(self, home: Path, broker: str | None, stack: ExitStack) -> None:
        shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns("__pycache__", ".millstream"))
        self._home, self._stack = home, stack
        self._environment = environment({}) | {"MATRIX_PAUSE": "0"}
        if broker is not None:
            self._environment["CELERY_BROKER_URL"] = broker
        self._place = f"http://127.0.0.1:{free_port()}"
        self.serve()

    def serve(self) -> None:
        port = self._place.rpartition(":")[2]
        self.server = self.start(["flask", "run", "--port", port])
        until = time.monotonic() + SECONDS
        while True:
            try:
                assert self.ask("/health") == (200, {"status": "ok"})
            except URLError:
                assert self.server.poll() is None, self.said("flask run")
                assert time.monotonic() < until
                time.sleep(0.02)
            else:
                return

    def start(self, command: list[str], **variables: str) -> subprocess.Popen[bytes]:
        with self._log(_name(command)).open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", command[1]] if command[0] == "bash" else [sys.executable, "-m", *command],
                cwd=self._home,
                env=self._environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )
        self._stack.callback(kill, process)
        return process

    def work(self, command: list[str], **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it is ready."""
        name = _name(command)
        before = self.said(name).count("ready")
        process = self.start(command, **variables)
        until = time.monotonic() + SECONDS
        while self.said(name).count("ready") == before:
            assert process.poll() is None, self.said(name)
            assert time.monotonic() < until, self.said(name)
            time.sleep(0.02)
        return process

    def said(self, name: str) -> str:
        log = self._log(name)
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _log(self, name: str) -> Path:
        return self._home / f"{name.replace(' ', '-')}.log"

    def ask(self, page: str, given: Any = None) -> tuple[int, Any]:
        """Ask for a page, or post JSON to it; return the status, and what was answered."""
        data = None if given is None else json.dumps(given).encode()
        request = Request(f"{self._place}{page}", data, {"Content-Type": "application/json"})  # noqa: S310  our server
        try:
            with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  as above
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def started(self, page: str, **given: Any) -> str:
        code, told = self.ask(page, given)
        assert code == 202, told
        return str(told["task_id"])

    def status(self, task_id: str) -> dict[str, Any]:
        code, told = self.ask(f"/task-status/{task_id}")
        assert code == 200, told
        return dict(told)

    def awaited(self, task_id: str, *states: str) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while (told := self.status(task_id))["status"] not in states:
            assert time.monotonic() < until, (told, self.said("celery -A")[-4000:], self.said("flask run")[-4000:])
            time.sleep(0.05)
        return told

    def result(self, task_id: str) -> Any:
        told = self.awaited(task_id, "SUCCESS", "FAILURE", "REVOKED")
        assert told["status"] == "SUCCESS", told
        return told["result"]


def _name(command: list[str]) -> str:
    return command[0] if command[0] == "bash" else " ".join(command[:2])


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(SECONDS)


def trace(size: int, seed: int) -> float:
    """Multiply by numpy alone."""
    random = np.random.default_rng(seed)
    left, right = random.random((size, size)), random.random((size, size))
    return float(np.trace(left @ right))


def seen(summary: dict[str, Any]) -> list[Any]:
    assert summary["count"] == len(summary["summary"])
    assert all(one["result_shape"] == [one["size"]] * 2 for one in summary["summary"])
    return [(one["size"], one["trace"]) for one in summary["summary"]]


def all_pages_are_true(service: Service) -> None:
    one = service.started("/matrix-multiply", size=30, seed=3)
    many = service.started("/matrix-multiply-bulk", sizes=[40, 10, 25], seed=7)
    alone = service.started("/run-task", size=15, seed=9)
    assert seen(service.result(one)) == [(30, pytest.approx(trace(30, 3)))]
    expected = [(size, pytest.approx(trace(size, 7 + place))) for place, size in enumerate((40, 10, 25))]
    assert seen(service.result(many)) == expected
    assert service.result(alone)["trace"] == pytest.approx(trace(15, 9))


def nothing_runs_in_the_server(service: Service) -> None:
    task_id = service.started("/run-task", size=20, seed=5)
    time.sleep(0.5)  # nothing can be waited for: it would have run by then
    assert service.status(task_id)["status"] == "PENDING"


def a_killed_workers_task_is_gone_on_with(service: Service, command: list[str]) -> None:
    first = service.work(command, MATRIX_PAUSE="60")  # so that it is killed in mid-task
    task_id = service.started("/run-task", size=20, seed=5)
    service.awaited(task_id, "STARTED")
    kill(first)
    assert service.status(task_id)["status"] != "SUCCESS"
    service.work(command)
    assert service.result(task_id)["trace"] == pytest.approx(trace(20, 5))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


# ------------------------------------------------------------------------------------------------------- running it
def test_it_runs_in_one_process_without_a_broker(tmp_path: Path, stack: ExitStack) -> None:
    service = Service(tmp_path / "service", None, stack)
    all_pages_are_true(service)
    for page, given, said in (
        ("/matrix-multiply", {}, "a size has to be a whole number from 1 to 4000, not None"),
        ("/matrix-multiply", {"size": 5000}, "not 5000"),
        ("/matrix-multiply", [5], "has to be a JSON object"),
        ("/matrix-multiply-bulk", {"sizes": []}, "a list of one number or more, not []"),
        ("/matrix-multiply", {"size": 5, "seed": "x"}, "not 'x'"),
    ):
        code, told = service.ask(page, given)
        assert (code, said in told["error"]) == (400, True), told
    assert service.ask("/task-status/nobody-knows-this")[0] == 404


def test_a_service_that_was_killed_goes_on_with_what_it_was_given(tmp_path: Path, stack: ExitStack) -> None:
    service = Service(tmp_path / "service", None, stack)
    kill(service.server)
    service._environment["MATRIX_PAUSE"] = "60"
    service.serve()
    task_id = service.started("/run-task", size=20, seed=5)
    service.awaited(task_id, "STARTED")
    kill(service.server)
    service._environment["MATRIX_PAUSE"] = "0"
    service.serve()
    assert service.result(task_id)["trace"] == pytest.approx(trace(20, 5))


def test_it_runs_on_celerys_own_worker_over_rabbitmq_and_outlives_it(
    tmp_path: Path, stack: ExitStack, rabbitmq_url: str
) -> None:
    service = Service(tmp_path / "service", rabbitmq_url, stack)
    nothing_runs_in_the_server(service)
    a_killed_workers_task_is_gone_on_with(service, CELERY)
    all_pages_are_true(service)


@pytest.mark.matrix
@pytest.mark.parametrize("command", [CELERY, OURS], ids=["celery worker", "flask millstream worker"])
def test_it_runs_on_either_worker_over_redis_and_outlives_it(
    tmp_path: Path, stack: ExitStack, valkey_url: str, command: list[str]
) -> None:
    service = Service(tmp_path / "service", valkey_url, stack)
    a_killed_workers_task_is_gone_on_with(service, command)
    all_pages_are_true(service)


# --------------------------------------------------------------------------------------------------- its containers
@pytest.mark.matrix
def test_the_health_check_of_a_worker_tells_whether_it_is_there(
    tmp_path: Path, stack: ExitStack, rabbitmq_url: str
) -> None:
    service = Service(tmp_path / "service", rabbitmq_url, stack)
    composed = yaml.safe_load((EXAMPLE / "compose.yaml").read_text(encoding="utf-8"))
    check = composed["services"]["worker"]["healthcheck"]["test"][1].replace("$$", "$")
    check = check.replace("celery -A", f"{sys.executable} -m celery -A")
    worker = service.work(CELERY)
    assert service.start(["bash", check], HOSTNAME=gethostname()).wait(SECONDS) == 0, service.said("bash")
    kill(worker)
    assert service.start(["bash", check], HOSTNAME=gethostname()).wait(SECONDS) != 0


def test_the_compose_file_is_sound() -> None:
    composed = yaml.safe_load((EXAMPLE / "compose.yaml").read_text(encoding="utf-8"))
    services = composed["services"]
    assert set(services) == {"rabbitmq", "redis", "app", "worker"}
    for service in services.values():
        assert ("image" in service) is not ("build" in service)
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in composed["volumes"]
        for needed, how in service.get("depends_on", {}).items():
            assert (needed in services, how) == (True, {"condition": "service_healthy"})
    app, worker = services["app"], services["worker"]
    assert worker["command"].startswith("celery -A app.celery worker ")
    shared = ("CELERY_BROKER_URL", "MILLSTREAM_DATABASE_URL")
    assert [app["environment"][name] for name in shared] == [worker["environment"][name] for name in shared]
    assert app["volumes"] == worker["volumes"]
    dockerfile = (EXAMPLE / "compose.yaml").parent / app["build"]["context"] / app["build"]["dockerfile"]
    assert dockerfile.resolve() == EXAMPLE / "Dockerfile"


def test_the_image_has_what_it_copies_and_what_the_program_needs() -> None:
    root = EXAMPLE.parents[1]
    lines = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert copied
    assert all(list(root.glob(source)) for source in copied)
    assert "CMD" in {line.partition(" ")[0] for line in lines}
    required = (EXAMPLE / "requirements.txt").read_text(encoding="utf-8").split()
    assert required[0] == "millstream[celery,flask]"
