"""`flask millstream …`: our command line with the settings and the tasks of a Flask app."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli_program import environment

SECONDS = 120
SHOP = """\
from flask import Flask, current_app

from millstream.integrations.flask import FlaskMillstream

ext = FlaskMillstream()


@ext.task
def greet(name):
    return f"{current_app.config['GREETING']} {name}"


@ext.task(run_in="process")
def greet_in_process(name):
    return f"{current_app.config['GREETING']} {name}"


def create_app():
    app = Flask(__name__)
    app.config.from_mapping(GREETING="hello", MILLSTREAM_DATABASE_URL="sqlite:///shop.db")
    ext.init_app(app)
    return app
"""


@pytest.fixture
def shop(working_directory: Path) -> Path:
    (working_directory / "shop.py").write_text(SHOP, encoding="utf-8")
    return working_directory


def flask(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "shop", "millstream", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        flask(*arguments), env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def submitted(task: str) -> str:
    """Let a process submit a task without running it, and return its id."""
    program = f"""
import asyncio, shop
from millstream import Millstream
app = shop.create_app()
async def main():
    async with Millstream(settings=app.extensions["millstream"].settings, executes=False) as engine:
        print((await engine.submit(shop.{task}, "tea")).id)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.usefixtures("shop")
def test_it_has_the_commands_of_the_program() -> None:
    told = run("--help")
    assert told.returncode == 0
    assert told.stdout.startswith("Usage: flask millstream")
    assert {"worker", "jobs", "run", "flows"} <= set(re.findall(r"^  (\w+) ", told.stdout, re.MULTILINE))


def test_its_ledger_is_that_of_the_app_and_a_task_runs_in_its_context(shop: Path) -> None:
    ran = run("run", "shop.py:greet", "-i", "name=tea", "--json")
    assert json.loads(ran.stdout.splitlines()[-1])["result"] == "hello tea", ran.stderr
    listed = json.loads(run("jobs", "list", "--json").stdout)
    assert len(listed if isinstance(listed, list) else listed["jobs"]) == 1
    assert (shop / "shop.db").exists()


@pytest.mark.usefixtures("shop")
def test_errors_and_exit_codes_are_those_of_the_program() -> None:
    no_ledger = run("jobs", "list")
    assert no_ledger.returncode == 78
    assert no_ledger.stderr.startswith("millstream: there is no ledger yet: ")
    wrong = run("no-such-command")
    assert (wrong.returncode, "flask millstream --help" in wrong.stderr) == (2, True)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("task", [pytest.param("greet", marks=pytest.mark.matrix), "greet_in_process"])
def test_a_worker_runs_what_others_submit_in_the_context_of_the_app(task: str) -> None:
    job = submitted(task)
    command = flask("worker", "-l", "info")
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stderr is not None
            assert any("is ready: 2 flows and tasks" in line for line in worker.stderr)
            done = run("jobs", "events", job, "--follow", "--json")
            assert done.returncode == 0, done.stderr
        finally:
            worker.terminate()
            worker.wait(SECONDS)
        assert f"shop.{task}[{job}] succeeded in" in worker.stderr.read()
    shown = json.loads(run("jobs", "show", job, "--json").stdout)
    assert (shown["state"], shown["result"]) == ("succeeded", "hello tea")
    assert worker.returncode == 0
