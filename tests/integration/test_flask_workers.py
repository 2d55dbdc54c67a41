"""Tasks of a Flask app on Celery workers: in its context, by its configuration, whichever way the worker is started."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.celery_workers import environment
from tests.lifeline import die_with_parent

SECONDS = 120
TASKS = """\
import os

from flask import current_app

from millstream.compat import shared_task
from millstream.integrations.flask import FlaskMillstream

ext = FlaskMillstream()


@ext.task
def plain(name):
    return [current_app.config["GREETING"], name, os.getpid()]


@ext.task
async def waiting(name):
    return [current_app.config["GREETING"], name, os.getpid()]


@ext.task(run_in="process")
def apart(name):
    return [current_app.config["GREETING"], name, os.getpid()]


@shared_task
def shared(name):
    return [current_app.config["GREETING"], name, os.getpid()]
"""
SHOP = """\
from flask import Flask

from shop_tasks import ext


def create_app():
    app = Flask(__name__)
    app.config.from_mapping(GREETING="hello", CELERY=dict(broker_url={broker!r}, task_ignore_result=True),
                            MILLSTREAM_DATABASE_URL="sqlite:///{home}/shop.db")
    ext.init_app(app)
    return app
"""
MAKE_CELERY = "from shop import create_app\n\napp = create_app()\ncelery = app.extensions['celery']\n"
CALLS = """\
import json, os
import shop, shop_tasks as tasks
from millstream import chord
with shop.create_app().app_context():
    used = [tasks.plain, tasks.waiting, tasks.apart, tasks.shared]
    started = [task.delay("tea") for task in used]
    told = [result.get(timeout=50) for result in started]
    told.append(chord([task.s("tea") for task in used])(tasks.plain.s()).get(timeout=50)[:2])
    print(json.dumps([told, os.getpid()]))
"""
COMMANDS = {
    "celery worker on a module that makes the app": [
        "celery",
        "-A",
        "make_celery.celery",
        "worker",
        "-c",
        "2",
        "-l",
        "info",
    ],
    "millstream worker on the Flask app": ["millstream", "worker", "-A", "make_celery"],
    "millstream worker with pool processes": ["millstream", "worker", "-A", "make_celery:celery", "-P", "prefork"],
    "flask millstream worker on a factory": ["flask", "--app", "shop", "millstream", "worker", "-c", "2"],
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.mark.matrix
@pytest.mark.parametrize("command", list(COMMANDS.values()), ids=list(COMMANDS))
def test_tasks_run_on_a_worker_in_the_context_of_their_app(
    tmp_path: Path, valkey_url: str, stack: ExitStack, command: list[str]
) -> None:
    (tmp_path / "shop_tasks.py").write_text(TASKS, encoding="utf-8")
    (tmp_path / "shop.py").write_text(SHOP.format(broker=valkey_url, home=tmp_path), encoding="utf-8")
    (tmp_path / "make_celery.py").write_text(MAKE_CELERY, encoding="utf-8")
    variables = environment({}) | {"FLASK_APP": "shop"}
    worker = started(command, tmp_path, variables, stack)
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, (done.stderr, (tmp_path / "log").read_text(encoding="utf-8")[-4000:])
    told, caller = json.loads(done.stdout.splitlines()[-1])
    assert [one[:2] for one in told[:-1]] == [["hello", "tea"]] * 4
    assert caller not in {one[2] for one in told[:-1]}
    assert told[-1][0] == "hello"
    assert [one[:2] for one in told[-1][1]] == [["hello", "tea"]] * 4
    worker.terminate()
    assert worker.wait(SECONDS) == 0


def started(command: list[str], home: Path, variables: dict[str, str], stack: ExitStack) -> subprocess.Popen[bytes]:
    """Start a worker in a directory, and wait until it is ready."""
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=home,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    until = time.monotonic() + SECONDS
    while "ready" not in (said := log.read_text(encoding="utf-8")):
        assert process.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.02)
    return process
