"""The programs of two public guides to Celery run with only their imports of Celery changed.

Both are written out as their pages print them; the indentation that one page lost is put back.
"""

import asyncio
import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from millstream import Millstream
from millstream.authoring import current
from millstream.compat import _state

# --------------------------------------------------- "Asynchronous Task Handling with Celery Task Queues", 2025
CELERY_CONFIG = """\
from millstream.compat import Celery


# pyamqp://<user>:<password>@localhost// - if you are running everything locally on your machine
CELERY_BROKER_URL = "pyamqp://admin:mypass@rabbitmq:5672//" # RabbitMQ host port
CELERY_RESULT_BACKEND = "redis://localhost:6379/0" #can use rpc:// for rabbitmq result backend


# Create Celery instance
celery = Celery(
   "tasks",
   broker=CELERY_BROKER_URL,
   backend=CELERY_RESULT_BACKEND,
   include=["tasks"])
"""

TASKS = """\
from celery_config import celery
from millstream.compat import chain, chord
import numpy as np
import time
import json


@celery.task
def matrix_multiply_task(size):
   print(f"Starting matrix multiplication for size {size}x{size}")
   start = time.time()
   time.sleep(10)
   # Generate two random matrices
   A = np.random.rand(size, size)
   B = np.random.rand(size, size)
   # Perform multiplication
   result = np.dot(A, B)
   duration = time.time() - start
   print(f"Matrix multiplication complete for size {size}x{size} in {duration:.2f} seconds")
   return {
       "size": size,
       "duration": duration,
       "result_shape": list(result.shape)
   }


@celery.task
def log_matrix_summary(results):
   if isinstance(results, dict):
       results = [results]
   print(f"Summary for {len(results)} matrix multiplications:")
   summary = []
   for res in results:
       # Only try to parse JSON if the string looks like JSON
       if isinstance(res, str) and res.strip() and res.strip()[0] in '{[':
           try:
               res = json.loads(res)
           except Exception as e:
               print(f"Could not parse result: {res} because of {e}")
               continue
       # Only process dicts with expected keys
       if isinstance(res, dict) and 'size' in res and 'duration' in res and 'result_shape' in res:
           print(f"  Size: {res['size']}x{res['size']}, Duration: {res['duration']:.2f}s, Shape: {res['result_shape']}")
           summary.append({
               "size": res['size'],
               "duration": res['duration'],
               "result_shape": res['result_shape']
           })
   return {"count": len(summary), "summary": summary}





# Single workflow (unchanged)
def run_matrix_multiplication_workflow(size):
   workflow = chain(
       matrix_multiply_task.s(size),
       log_matrix_summary.s()
   )()
   return {"task_id": workflow.id, "status": "STARTED"}


# Chord workflow for bulk matrix multiplication
def run_matrix_multiplication_chord_workflow(sizes):
   header = [matrix_multiply_task.s(size) for size in sizes]
   callback = log_matrix_summary.s()
   workflow = chord(header)(callback)
   return {"task_id": workflow.id, "status": "STARTED"}
"""

APP = """\
from flask import Flask, jsonify, request


from celery_config import celery
from tasks import run_matrix_multiplication_workflow, run_matrix_multiplication_chord_workflow


app = Flask(__name__)


@app.route("/task-status/<task_id>")
def task_status(task_id):
   res = celery.AsyncResult(task_id)
   return jsonify({
       "task_id": res.id,
       "status": res.status,
       "result": res.result  # Will be null unless a result backend is configured
   })


@app.route("/matrix-multiply", methods=["POST"])
def matrix_multiply():
   data = request.json
   size = data.get("size", 0)
   result = run_matrix_multiplication_workflow(size)
   return jsonify(result)


@app.route("/matrix-multiply-bulk", methods=["POST"])
def matrix_multiply_bulk():
   data = request.json
   sizes = data.get("sizes", [0,0,0])
   result = run_matrix_multiplication_chord_workflow(sizes)
   return jsonify(result)
"""

# ---------------------------------------------------------------------------------- "Flask and Celery", 2025
FLASK_APP = """\
from flask import Flask
from millstream.compat import Celery

app = Flask(__name__)
app.config['CELERY_BROKER_URL'] = 'redis://localhost:6379/0'
app.config['CELERY_RESULT_BACKEND'] = 'redis://localhost:6379/0'

celery = Celery(app.name, broker=app.config['CELERY_BROKER_URL'])
celery.conf.update(app.config)

@celery.task
def long_running_task(n):
    import time
    time.sleep(n)
    return f"Task completed in {n} seconds"

from flask import request, jsonify

@app.route('/run-task', methods=['POST'])
def run_task():
    data = request.get_json()
    task = long_running_task.apply_async(args=[data.get('duration', 5)])
    return jsonify({"task_id": task.id, "status": "Task started"}), 202

@app.route('/task-status/<task_id>', methods=['GET'])
def task_status(task_id):
    task = long_running_task.AsyncResult(task_id)
    return jsonify({"task_id": task_id, "status": task.state, "result": task.result})
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(working_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Write files, and import the last of them, with an app of the test's own in force."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(working_directory))

    def write_and_import(**files: str) -> ModuleType:
        for name, text in files.items():
            (working_directory / f"{name}.py").write_text(text, encoding="utf-8")
        return importlib.import_module(list(files)[-1])

    millstream = Millstream()
    with current.use(millstream):
        yield write_and_import
    asyncio.run(millstream.aclose())
    _state.set_current_app(None)
    for name in ("app", "celery_config", "tasks"):
        if name not in before:
            sys.modules.pop(name, None)


def ended(client: Any, task_id: str, timeout: float = 30) -> dict[str, Any]:
    """Ask for a task's status until it has ended."""
    deadline = time.monotonic() + timeout
    while (told := client.get(f"/task-status/{task_id}").get_json())["status"] not in ("SUCCESS", "FAILURE"):
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return dict(told)


@pytest.fixture
def client(load: Load, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The first guide's program, which does not sleep its ten seconds."""
    module = load(celery_config=CELERY_CONFIG, tasks=TASKS, app=APP)
    monkeypatch.setattr(sys.modules["tasks"], "time", SimpleNamespace(time=time.time, sleep=lambda _: None))
    return module.app.test_client()


def test_the_task_queue_guide_multiplies_one_matrix_in_a_chain(client: Any) -> None:
    started = client.post("/matrix-multiply", json={"size": 20}).get_json()
    assert started["status"] == "STARTED"
    told = ended(client, started["task_id"])
    assert told["task_id"] == started["task_id"]
    assert told["status"] == "SUCCESS"
    assert told["result"]["count"] == 1
    assert told["result"]["summary"][0]["result_shape"] == [20, 20]


def test_the_task_queue_guide_multiplies_many_matrices_in_a_chord(client: Any) -> None:
    started = client.post("/matrix-multiply-bulk", json={"sizes": [5, 10, 15]}).get_json()
    told = ended(client, started["task_id"])
    assert told["result"]["count"] == 3
    assert [line["size"] for line in told["result"]["summary"]] == [5, 10, 15]


def test_the_flask_guide_runs_a_task_and_tells_its_status(load: Load) -> None:
    module = load(app=FLASK_APP)
    client = module.app.test_client()
    answer = client.post("/run-task", json={"duration": 0})
    assert (answer.status_code, answer.get_json()["status"]) == (202, "Task started")
    told = ended(client, answer.get_json()["task_id"])
    assert told == {
        "task_id": answer.get_json()["task_id"],
        "status": "SUCCESS",
        "result": "Task completed in 0 seconds",
    }


def test_the_flask_guides_config_is_taken_with_flasks_own_keys_in_it(load: Load) -> None:
    celery = load(app=FLASK_APP).celery
    assert celery.conf.broker_url == celery.conf.result_backend == "redis://localhost:6379/0"
    assert [line.name for line in celery.conf.report()] == ["broker_url", "result_backend"]


@pytest.mark.parametrize(
    ("files", "app"),
    [({"celery_config": CELERY_CONFIG, "tasks": TASKS}, "tasks"), ({"app": FLASK_APP}, "app.celery")],
    ids=["task queues", "flask"],
)
def test_the_guides_commands_start_a_worker_that_knows_the_tasks(
    working_directory: Path, files: dict[str, str], app: str
) -> None:
    for name, text in files.items():
        (working_directory / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "millstream", "worker", "-A", app]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=working_directory) as worker:
        try:
            assert worker.stderr is not None
            first = worker.stderr.readline()
            worker.terminate()
            worker.wait(timeout=120)
        finally:
            worker.kill()
    count = 2 if "tasks" in files else 1
    assert f"is ready: {count} flows and tasks" in first, first
