"""`import millstream` is cheap: what a script does not use is not loaded."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

HEAVY = {
    "alembic",
    "celery",
    "fastapi",
    "httpx",
    "jinja2",
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


HIDING = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {hidden!r} else found(name, path, target)

PathFinder.find_spec = find_spec
"""

WITHOUT_CELERY = """
import asyncio

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


SPEAKING_TO_BROKERS = """
from kombu import Connection
from millstream import Settings
from millstream.worker import make_celery_app
import millstream.backends.celery.pool

for url in ("redis://localhost/0", "amqp://localhost//"):
    settings = Settings.load(celery_enabled=True, broker_url=url)
    print(make_celery_app(settings, list).conf.broker_url, Connection(url).transport.driver_type)
"""


def said(program: str, *, hidden: set[str]) -> str:
    """Return what a fresh interpreter prints that runs a program, and finds none of these top-level modules."""
    text = HIDING.format(hidden=sorted(hidden)) + program
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_whoever_does_without_workers_needs_no_celery_and_others_are_told_what_to_install() -> None:
    assert "millstream[celery]" in said(WITHOUT_CELERY, hidden={"celery", "kombu", "redis"})


def installed_with(extra: str) -> set[str]:
    """Return the packages that installing millstream with an extra brings along, by the lock file."""
    text = (Path(__file__).parents[2] / "uv.lock").read_text(encoding="utf-8")
    lock = {package["name"]: package for package in tomllib.loads(text)["package"]}
    found: set[tuple[str, str]] = set()
    waiting = {("millstream", ""), ("millstream", extra)}
    while waiting:
        found |= waiting
        asked = (lock[n]["optional-dependencies"][e] if e else lock[n].get("dependencies", ()) for n, e in waiting)
        needed = [dependency for dependencies in asked for dependency in dependencies]
        waiting = {(new["name"], e) for new in needed for e in ("", *new.get("extra", ()))} - found
    return {name for name, _ in found}


def test_the_extra_for_workers_brings_all_that_speaking_to_brokers_takes() -> None:
    brought = installed_with("celery")
    of_tests = {
        module
        for module, packages in packages_distributions().items()
        if not brought & {canonicalize_name(name) for name in packages}
    }
    assert "pytest" in of_tests
    assert said(SPEAKING_TO_BROKERS, hidden=of_tests).split() == [
        "redis://localhost/0",
        "redis",
        "amqp://localhost//",
        "amqp",
    ]
