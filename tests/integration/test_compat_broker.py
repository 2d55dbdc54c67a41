"""A broker that a moved app names: it is used by whoever switches workers on, and told of once if it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from millstream.compat import Celery

app = Celery("shop", broker={broker!r})

@app.task
def price(article):
    return len(article)

if __name__ == "__main__":
    print("before the first call", file=sys.stderr)
    for _ in range(2):
        assert price.delay("tea").get(timeout=120) == 3
"""
BEFORE = "before the first call\n"


def said(directory: Path, broker: str | None, **variables: str) -> str:
    """Return what a program says on standard error that calls a task twice, with Python's logging as it comes."""
    (directory / "shop.py").write_text(PROGRAM.format(broker=broker), encoding="utf-8")
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MILLSTREAM_", "LANGFLOW_"))}
    done = subprocess.run(
        [sys.executable, "shop.py"],
        cwd=directory,
        env={**others, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_broker_that_is_not_used_is_told_of_once_at_the_first_call(tmp_path: Path) -> None:
    before, _, line = said(tmp_path, "redis://localhost:1/0").partition(BEFORE)
    assert before == ""
    assert line.count("\n") == 1
    assert "tasks run in this process" in line
    assert "MILLSTREAM_CELERY_ENABLED=true" in line


@pytest.mark.parametrize(
    ("broker", "variables"),
    [(None, {}), ("redis://localhost:1/0", {"MILLSTREAM_CELERY_ENABLED": "false"})],
    ids=["no broker", "said by the setting"],
)
def test_nothing_is_told_where_tasks_run_as_the_program_says(
    tmp_path: Path, broker: str | None, variables: dict[str, str]
) -> None:
    assert said(tmp_path, broker, **variables) == BEFORE
