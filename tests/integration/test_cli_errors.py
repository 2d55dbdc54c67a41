"""Every mistake is told in one line that says what to do, and has its exit code."""

from pathlib import Path
from textwrap import dedent

import pytest

from millstream.cli.exits import Exit, explain
from tests.integration.cli_program import millstream

FILES = {
    "good.py": """
        from millstream import flow, task

        @task
        def add(first: int, second: int = 1) -> int:
            return first + second

        @flow
        def sums(first: int):
            return add(first)
        """,
    "several.py": """
        from millstream import flow

        @flow
        def one(): ...

        @flow
        def two(): ...
        """,
    "tasks.py": """
        from millstream import task

        @task
        def one(): ...

        @task
        def two(): ...
        """,
    "empty.py": "",
    "syntax.py": "def f(:\n    pass\n",
    "fails.py": """
        import json

        json.loads("{")
        """,
    "imports.py": "import no_such_package\n",
    "leaves.py": "import sys\nsys.exit('no database')\n",
    "policy.py": """
        from millstream import task

        @task(retries=-1)
        def f(): ...
        """,
    "value.py": """
        from millstream import flow, task

        @task
        def one() -> int: ...

        @flow
        def uses():
            if one():
                return 1
        """,
    "body.py": """
        from millstream import flow

        @flow
        def divides(by: int = 0):
            return 1 / by
        """,
    "random.py": "",
    "notes.txt": "",
}
MISTAKES = [
    ("run godo.py", "there is no file godo.py; did you mean good.py?"),
    ("run .", ". is a directory; name a Python file in it"),
    ("run ./notes.txt", "./notes.txt is not a Python file: its name does not end in .py"),
    ("run nothing_there", "there is no module nothing_there"),
    ("run not-a-module", "'not-a-module' is neither a Python file (.py) nor the name of a module"),
    ("run good.py:sum", "good.py has no flow or task 'sum'; did you mean sums?"),
    ("run several.py", "several.py has 2 flows: one, two; name one, as in several.py:one"),
    ("run tasks.py", "tasks.py has no flow, but 2 tasks: one, two; name one, as in tasks.py:one"),
    ("run empty.py", "empty.py defines no flow and no task"),
    ("run good.py", "good.sums needs -i first=…"),
    ("run good.py -i first", "-i first: write an input as key=value"),
    ("run good.py -i first=1 -i first=2", "-i first=2: the input 'first' is given twice"),
    ("run imports.py", "imports.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
    ("run leaves.py", "leaves.py:2: SystemExit: no database"),
    ("run policy.py", "policy.py:3: task policy.f: retries is -1, but must not be negative"),
    ("run body.py", "body.py:5: the body of flow body.divides raised ZeroDivisionError: division by zero"),
    ("flows list", "name a file or module, or an app with -A, or set MILLSTREAM_IMPORTS"),
    ("flows list tasks.py", "tasks.py defines no flow"),
    ("flows list -A good.py:app", "good.py has no app named 'app'; one is made by `app = Millstream()`"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with files that are good and bad; nothing is written there."""
    directory = tmp_path_factory.mktemp("mistakes")
    for name, text in FILES.items():
        (directory / name).write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return directory


@pytest.mark.parametrize(("command", "line"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line(work: Path, command: str, line: str) -> None:
    done = millstream(*command.split(), cwd=work)
    assert (done.stderr, done.stdout, done.returncode) == (f"millstream: {line}\n", "", 2)


@pytest.mark.parametrize(
    ("command", "beginning"),
    [
        ("run", "missing argument"),
        ("rnu", "no such command 'rnu'"),
        ("run good.py --jsno", "no such option: --jsno"),
        ("run syntax.py", "syntax.py:1: SyntaxError: "),
        ("run good.py -i third=3", "good.sums: there is no input 'third'"),
        ("run good.py -i first=many", "good.sums: input first='many': "),
        ("run fails.py", "fails.py:3: JSONDecodeError: "),
        ("run value.py", "value.py:8: the result of one is tested"),
        ("run random.py", "random.py: "),
    ],
)
def test_a_mistake_that_others_word_is_told_in_one_line_too(work: Path, command: str, beginning: str) -> None:
    done = millstream(*command.split(), cwd=work)
    assert done.returncode == 2
    assert done.stderr.startswith(f"millstream: {beginning}")
    assert done.stderr.count("\n") == 1


def test_wrong_settings_have_an_exit_code_of_their_own_and_a_line_each(work: Path) -> None:
    done = millstream("run", "good.py", cwd=work, MILLSTREAM_WORKER="3", MILLSTREAM_MAX_THREADS="0")
    assert done.returncode == 78
    assert sorted(line.split(" ")[:2] for line in done.stderr.splitlines()) == [
        ["millstream:", "max_threads"],
        ["millstream:", "worker"],
    ]


def test_a_setting_that_names_no_module_is_a_wrong_setting(work: Path) -> None:
    done = millstream("run", "good.py", "-i", "first=1", cwd=work, MILLSTREAM_IMPORTS="nothing_there")
    assert (done.returncode, done.stderr) == (78, "millstream: there is no module nothing_there (setting imports)\n")


def test_debug_shows_the_traceback_of_an_import_that_failed(work: Path) -> None:
    done = millstream("run", "fails.py", "--debug", cwd=work)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last)")
    assert 'json.loads("{")' in done.stderr


def test_what_nobody_foresaw_is_an_internal_error_with_a_hint() -> None:
    code, lines = explain(ZeroDivisionError("division by zero"))
    assert code is Exit.INTERNAL
    assert lines == ["internal error: ZeroDivisionError: division by zero (--debug shows the traceback)"]


def test_every_exit_code_is_documented() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
    rows = [line.split("|")[1].strip(" `") for line in page.read_text(encoding="utf-8").splitlines() if "|" in line]
    assert {str(code.value) for code in Exit} == {row for row in rows if row.isdigit()}
