"""`import millstream` is cheap: what a script does not use is not loaded."""

import json
import subprocess
import sys

HEAVY = {
    "alembic",
    "celery",
    "fastapi",
    "pydantic",
    "pydantic_settings",
    "redis",
    "rich",
    "sqlalchemy",
    "structlog",
    "typer",
    "yaml",
}


def modules_after(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has loaded after one statement."""
    program = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_no_heavy_dependency() -> None:
    assert modules_after("import millstream") & HEAVY == set()


def test_importing_the_package_loads_nothing_made_for_tests() -> None:
    assert {name for name in modules_after("import millstream") if name.startswith("millstream.testing")} == set()


WITHOUT_CELERY = """
import asyncio
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in ("celery", "kombu", "redis") else found(name, path, target)

PathFinder.find_spec = find_spec

from millstream import Settings, SettingsError
from millstream.compat import Celery
from millstream.service import TaskService

app = Celery("shop", broker="redis://localhost/0")

@app.task(name="shop.add")
def add(x, y):
    return x + y

async def main():
    async with TaskService(Settings(durability="off")) as service:
        return await service.launch_and_await_task(add, 2, 3)

assert asyncio.run(main()) == 5
try:
    TaskService(Settings(celery_enabled=True, redis_url="redis://localhost/0"))
except SettingsError as error:
    print(error)
"""


def test_whoever_does_without_workers_needs_no_celery_and_others_are_told_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-I", "-c", WITHOUT_CELERY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "millstream[celery]" in done.stdout
