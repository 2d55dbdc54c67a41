"""`millstream worker -A` takes an app of `millstream.compat`, and sends the signals of a worker's life."""

import subprocess
import sys
from pathlib import Path

import pytest

SHOP = """\
from millstream.compat import Celery, signals

app = Celery("shop", include=["more"])

def tell(signal, sender, **_):
    print(signal.name, flush=True)

for name in ("celeryd_init", "worker_init", "import_modules", "worker_process_init", "worker_ready",
             "worker_shutting_down", "worker_process_shutdown", "worker_shutdown"):
    getattr(signals, name).connect(tell)

@app.task(name="a.name.of.its.own")
def named():
    return 1

def define():
    @app.task
    def inner():
        return 2

define()
"""

MORE = """\
from millstream.compat import shared_task

@shared_task
def shared():
    return 3
"""


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"shop.py": SHOP}, "shop:app"),
        ({"shop.py": SHOP}, "shop"),
        ({"shop/celery.py": SHOP, "shop/__init__.py": "from .celery import app as celery_app"}, "shop"),
        ({"shop/celery.py": SHOP, "shop/__init__.py": ""}, "shop"),
    ],
    ids=["app of a module", "module", "package that has the app", "package with a module celery"],
)
def test_a_worker_knows_all_tasks_of_an_app_and_tells_its_signals(
    working_directory: Path, files: dict[str, str], named: str
) -> None:
    for place, text in {**files, "more.py": MORE}.items():
        (working_directory / place).parent.mkdir(exist_ok=True)
        (working_directory / place).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "millstream", "worker", "-A", named]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=working_directory) as worker:
        try:
            assert worker.stdout is not None
            told: list[str] = []
            while not told or told[-1] not in ("worker_ready", ""):
                told.append(worker.stdout.readline().strip())
            worker.terminate()
            rest, errors = worker.communicate(timeout=120)
        finally:
            worker.kill()
    assert told == ["import_modules", "celeryd_init", "worker_init", "worker_process_init", "worker_ready"]
    assert rest.split() == ["worker_shutting_down", "worker_process_shutdown", "worker_shutdown"]
    assert "is ready: 3 flows and tasks" in errors
