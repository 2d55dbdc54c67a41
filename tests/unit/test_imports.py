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
