"""A task of the main file in a pool process: what the file defines keeps its identity on the way there and back."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
from dataclasses import dataclass

from millstream import Flow, ctx, task


@dataclass
class Pair:
    left: int
    right: int


class OutOfOrder(Exception):
    pass


class Unreadable:
    def __reduce__(self):
        return (int, ("no number",))


@task
def pair(left, right):
    return Pair(left, right)


@task(run_in="process")
def swapped(pair):
    return Pair(pair.right, pair.left)


@task(run_in="process", retries=1, retry_for=OutOfOrder)
def second_time():
    if ctx.attempt == 1:
        raise OutOfOrder
    return ctx.attempt


@task(run_in="process")
def out_of_order():
    raise OutOfOrder("as ever")


@task(bind=True, run_in="process")
def named(self):
    return self.request.task, self.request.id == f"{self.request.job_id}.named"


@task
def unreadable():
    return Unreadable()
"""

TAIL = """
if __name__ == "__main__":
    with Flow("it") as it:
        {drawing}
    try:
        print(it.run())
    except Exception as error:
        print(type(error).__module__, type(error).__qualname__, error)
"""


@pytest.mark.parametrize(
    ("drawing", "printed"),
    [
        ("swapped(pair(1, 2))", "Pair(left=2, right=1)"),
        ("second_time()", "2"),
        ("out_of_order()", "__main__ OutOfOrder as ever"),
        ("named()", "('program.named', True)"),
        ("swapped(unreadable())", "builtins ValueError invalid literal for int() with base 10: 'no number'"),
    ],
    ids=[
        "a class of it",
        "an exception of it to retry",
        "an exception of it",
        "a bound task of it",
        "an argument that cannot be read",
    ],
)
def test_what_the_main_file_defines_goes_to_a_process_and_back(drawing: str, printed: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HEAD + TAIL.format(drawing=drawing), encoding="utf-8")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == (printed, "")
