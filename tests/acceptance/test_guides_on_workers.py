"""The programs of three public guides run on real Celery workers, with only names of modules and servers changed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_guides_celery import APP as MATRIX_APP
from tests.acceptance.test_guides_celery import CELERY_CONFIG, FLASK_APP, TASKS
from tests.celery_workers import environment
from tests.lifeline import die_with_parent, free_port

READER_SECONDS = 200.0

LANGFLOW_TASKS = """\
from millstream.worker import celery_app

@celery_app.task
def heavy_computation(x: int) -> int:
    import time
    time.sleep(5)  # Simulate intensive processing

    return x ** 3

async def process_data(x: int) -> int:
    return x * 2
"""

LANGFLOW_READER = """\
import asyncio
from tasks import heavy_computation, process_data
from millstream.service import TaskService, get_settings_service

async def main():
    async with TaskService(get_settings_service()) as task_service:
        print(task_service.backend_name)  # Output: celery
        task_id = await task_service.fire_and_forget_task(process_data, 5)
        print(f"Launched task {task_id} using backend: {task_service.backend_name}")
        print("result", await task_service.get_task(task_id))
        task_id = await task_service.fire_and_forget_task(heavy_computation, 4)
        print(f"Celery task ID: {task_id}")
        print("result", await task_service.get_task(task_id), task_service.get_task(task_id).status)
        task_id = await task_service.fire_and_forget_task(heavy_computation, 5)
        await asyncio.sleep(1)
        if await task_service.revoke_task(task_id):
            print("Task cancelled successfully")
        print(task_service.get_task(task_id).status, await task_service.revoke_task(task_id))

asyncio.run(main())
"""

FLASK_READER = """\
import json, sys, time
from app import app

client = app.test_client()
path, body = sys.argv[1], json.loads(sys.argv[2])
task_id = client.post(path, json=body).get_json()["task_id"]
until = time.monotonic() + 120
while (told := client.get(f"/task-status/{task_id}").get_json())["status"] not in ("SUCCESS", "FAILURE"):
    assert time.monotonic() < until, told
    time.sleep(0.02)
print(json.dumps(told))
"""

Reader = Callable[..., str]


class Programs:
    """Starts the programs that a guide's reader types, in one directory and environment."""

    def __init__(self, home: Path, stack: ExitStack, settings: dict[str, str]) -> None:
        self.home, self._stack = home, stack
        self.environment = environment(settings)
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.environment['PATH']}"

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.home / f"{name}.py").write_text(text, encoding="utf-8")

    def worker(self, command: str) -> "Log":
        """Start a worker, and wait until it is ready."""
        log = self.start(command, self.home / "worker.log")
        log.wait_for(r" ready\b")
        return log

    def start(self, command: str, log: Path) -> "Log":
        """Start a program, which is ended with the test."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command.split(),
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.terminate)
        return Log(log)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=READER_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Log:
    """What a worker writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def said(self) -> str:
        return self.path.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str) -> None:
        until = time.monotonic() + READER_SECONDS
        while not re.search(pattern, self.said):
            assert time.monotonic() < until, self.said[-4000:]
            time.sleep(0.02)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def programs(working_directory: Path, stack: ExitStack) -> Programs:
    return Programs(working_directory, stack, {"celery_enabled": "true"})


def test_the_guide_to_task_backends_runs_on_a_worker(
    working_directory: Path, stack: ExitStack, valkey_url: str
) -> None:
    programs = Programs(working_directory, stack, {})
    (working_directory / "config.yaml").write_text(
        f'celery_enabled: true\nredis_url: "{valkey_url}"\nimports: tasks\n', encoding="utf-8"
    )
    programs.write(tasks=LANGFLOW_TASKS, reader=LANGFLOW_READER)
    worker = programs.worker("celery -A millstream.worker worker --concurrency=2 --loglevel=info")
    lines = programs.run(sys.executable, "reader.py").splitlines()
    assert lines[0] == "celery"
    assert re.fullmatch(r"Launched task [0-9a-f-]{36} using backend: celery", lines[1])
    assert lines[2] == "result 10"
    assert (celery_id := re.fullmatch(r"Celery task ID: ([0-9a-f-]{36})", lines[3])) is not None
    assert lines[4:] == ["result 64 SUCCESS", "Task cancelled successfully", "REVOKED False"]
    assert f"Task tasks.heavy_computation[{celery_id[1]}] succeeded" in worker.said


@pytest.fixture
def matrix(programs: Programs, valkey_url: str) -> Programs:
    config = CELERY_CONFIG.replace("pyamqp://admin:mypass@rabbitmq:5672//", valkey_url)
    programs.write(
        celery_config=config,
        tasks=TASKS.replace("time.sleep(10)", "time.sleep(0)"),
        app=MATRIX_APP,
        reader=FLASK_READER,
    )
    return programs


def posted(programs: Programs, path: str, body: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(programs.run(sys.executable, "reader.py", path, json.dumps(body)))
    return told


@pytest.mark.matrix
def test_the_task_queue_guide_runs_its_chain_and_its_chord_on_a_worker(matrix: Programs) -> None:
    worker = matrix.worker("celery -A tasks worker --loglevel=info")
    assert posted(matrix, "/matrix-multiply", {"size": 20})["result"]["count"] == 1
    told = posted(matrix, "/matrix-multiply-bulk", {"sizes": [5, 10, 15]})
    assert [line["size"] for line in told["result"]["summary"]] == [5, 10, 15]
    assert worker.said.count("Starting matrix multiplication") == 4  # there, and not in the web process


@pytest.mark.matrix
def test_the_flask_guide_runs_its_task_on_a_worker(programs: Programs, valkey_url: str) -> None:
    programs.write(app=FLASK_APP.replace("redis://localhost:6379/0", valkey_url), reader=FLASK_READER)
    worker = programs.worker("celery -A app.celery worker --concurrency=4 --loglevel=info")
    told = posted(programs, "/run-task", {"duration": 0})
    assert told["result"] == "Task completed in 0 seconds"
    worker.wait_for(r"Task app\.long_running_task\[.*\] succeeded")  # which is what Flower shows, too


MOVED = """\
import os
from millstream.compat import Celery, signals

celery_app = Celery("tasks", broker=os.environ["BROKER"])

def tell(signal, **_):
    print(f"told {signal.name}", flush=True)

for name in ("celeryd_init", "worker_init", "worker_process_init", "worker_ready", "task_prerun", "task_postrun"):
    getattr(signals, name).connect(tell)

@celery_app.task
def add(x, y):
    return x + y

@celery_app.task
def stuck():
    import time
    time.sleep(60)
"""

MOVED_READER = """\
import json, time
from tasks import add, celery_app, stuck

print(add.delay(2, 3).get(timeout=120))
asked = celery_app.control.inspect(timeout=60, limit=1)
print(json.dumps([asked.ping(), asked.registered(), celery_app.control.ping(timeout=60, limit=1)]))
of_celery = celery_app.celery_app.send_task("tasks.add", (3, 4), task_id="sent-by-celery")
until = time.monotonic() + 120
while (sent := celery_app.AsyncResult(of_celery.id)).state is None:  # the message was handed in as a job of its id
    assert time.monotonic() < until
    time.sleep(0.02)
print(sent.get(timeout=120))
running = stuck.delay()
until = time.monotonic() + 120
while not any(told["id"] == running.id for told in next(iter(asked.active().values()))):
    assert time.monotonic() < until
    time.sleep(0.02)
running.revoke(terminate=True)
print(running.state)
"""


@pytest.fixture
def moved(programs: Programs, valkey_url: str) -> Programs:
    programs.environment["BROKER"] = valkey_url
    programs.write(tasks=MOVED, reader=MOVED_READER)
    return programs


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("celery -A tasks worker --loglevel=info --concurrency=2", id="prefork", marks=pytest.mark.matrix),
        pytest.param("millstream worker -A tasks --loglevel=info", id="async"),
    ],
)
def test_a_moved_app_is_inspected_and_told_signals_on_a_worker(moved: Programs, program: str) -> None:
    worker = moved.worker(f"{program} -n one@here")
    added, asked, sent, state = moved.run(sys.executable, "reader.py").splitlines()
    assert (added, sent, state) == ("5", "7", "REVOKED")
    ping, registered, pings = json.loads(asked)
    assert ping == pings[0] == {"one@here": {"ok": "pong"}}
    assert {"millstream.execute_segment", "tasks.add", "tasks.stuck"} <= set(registered["one@here"])
    for name in ("celeryd_init", "worker_init", "worker_process_init", "worker_ready", "task_prerun", "task_postrun"):
        assert f"told {name}" in worker.said, name


def test_celerys_own_commands_work_with_a_moved_app(moved: Programs) -> None:
    worker = moved.worker("celery -A tasks worker --loglevel=info --concurrency=1 --hostname=one@here")
    assert "one@here: OK" in moved.run("celery", "-A", "tasks", "status")
    assert "* tasks.add" in moved.run("celery", "-A", "tasks.celery_app", "inspect", "registered")
    message_id = moved.run("celery", "-A", "tasks", "call", "tasks.add", "--args", "[2, 3]").strip()
    worker.wait_for(rf"Task tasks.add\[{message_id}\] succeeded")  # the message was handed in as a job of its id
    script = f"from tasks import celery_app; print(celery_app.AsyncResult({message_id!r}).get(timeout=120))"
    assert moved.run(sys.executable, "-c", script).strip() == "5"


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("inspect ping", "pong"),
        ("inspect active", "1 node online"),
        ("inspect stats", "1 node online"),
        ("control pool_grow 1", "pool will grow"),
        ("purge -f", "urged"),
        ("report", "celery:5"),
    ],
)
def test_further_commands_of_celery_work_with_a_moved_app(moved: Programs, command: str, told: str) -> None:
    moved.worker("celery -A tasks worker --loglevel=info --concurrency=1 --hostname=one@here")
    assert told in moved.run("celery", "-A", "tasks", *command.split())


FLOWER = """\
import json, sys, time, urllib.request

def asked(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{path}", timeout=60) as answer:
        return json.load(answer)

from tasks import add
until = time.monotonic() + 120
while True:
    try:
        if "one@here" in asked("/api/workers?refresh=1"):
            break
    except OSError:
        assert time.monotonic() < until
    time.sleep(0.1)
add.delay(2, 3).get(timeout=120)
while "tasks.add" not in (names := [told["name"] for told in asked("/api/tasks").values()]):
    assert time.monotonic() < until, names
    time.sleep(0.1)
print("shown")
"""


def test_flower_shows_workers_and_tasks_by_their_own_names(moved: Programs) -> None:
    moved.worker("celery -A tasks worker --loglevel=info --concurrency=1 --hostname=one@here --task-events")
    moved.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    moved.write(asker=FLOWER)
    port = free_port()
    moved.start(f"celery -A tasks flower --address=127.0.0.1 --port={port}", moved.home / "flower.log")
    assert moved.run(sys.executable, "asker.py", str(port)).strip() == "shown"
