"""The pytest plugin gives tests an app, and costs nothing where nobody uses it."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = "import json, sys; import pytest_millstream; print(json.dumps([*sys.modules]))"

SUITE = """
import threading
import pytest
from millstream import task
from millstream.authoring import current

@task
def where() -> int:
    return threading.get_ident()

@task
def fail():
    raise LookupError("nothing there")

apps = []

def test_the_app_is_the_default_one_and_runs_tasks(millstream_app):
    apps.append(millstream_app)
    assert current.app() is millstream_app
    assert where.delay().get(timeout=120) != threading.get_ident()
    assert millstream_app.settings.durability == "off"

def test_it_is_closed_afterwards_and_no_default_one_any_more():
    assert apps[0]._home.is_closed
    assert current._apps == {}

def test_other_threads_see_it_too(millstream_app):
    found = []
    thread = threading.Thread(target=lambda: found.append(current.app()))
    thread.start()
    thread.join()
    assert found == [millstream_app]

@pytest.mark.anyio
async def test_coroutine_tests_can_use_it(millstream_app):
    assert await (await millstream_app.submit(where)).result() != threading.get_ident()

def test_eagerly_tasks_run_in_the_thread_of_the_test(millstream_eager):
    assert where.delay().get() == threading.get_ident()
    with pytest.raises(LookupError):
        fail.delay()

@pytest.mark.millstream(imports=["json"], max_threads=3)
class TestMarked:
    @pytest.fixture
    def millstream_config(self):
        return {"max_threads": 2, "draw_timeout": 1.0}

    def test_the_marker_goes_before_the_fixture(self, millstream_app):
        settings = millstream_app.settings
        assert (settings.max_threads, settings.draw_timeout, settings.imports) == (3, 1.0, ("json",))

    @pytest.mark.millstream(max_threads=4)
    def test_the_nearest_marker_counts(self, millstream_app):
        assert millstream_app.settings.max_threads == 4
"""

MISTAKES = """
import pytest

@pytest.mark.millstream("json")
def test_what_is_not_named(millstream_app): ...

@pytest.mark.millstream(max_treads=3)
def test_a_misspelt_name(millstream_app): ...

@pytest.mark.millstream(max_threads="many")
def test_a_wrong_value(millstream_eager): ...
"""


def run_suite(suite: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own on a directory with one file of tests."""
    (tmp_path / "test_suite.py").write_text(suite, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
    )


def test_its_fixtures_and_marker_do_what_they_say(tmp_path: Path) -> None:
    done = run_suite(SUITE, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
    assert not (tmp_path / ".millstream").exists()


def test_a_mistake_in_the_marker_is_told_in_one_line(tmp_path: Path) -> None:
    told = run_suite(MISTAKES, tmp_path).stdout
    assert "3 errors" in told
    assert "During handling" not in told
    assert "\nthe marker millstream('json') must say what 'json' is: imports=['json']\n" in told
    assert "\nmax_treads (argument): no such setting; did you mean max_threads?\n" in told
    assert "\nmax_threads = 'many' (argument): " in told
    assert "Traceback" not in told
    assert "pydantic" not in told


def test_a_run_that_does_not_use_it_does_not_load_millstream() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "pytest_millstream" in loaded
    assert [name for name in loaded if name.partition(".")[0] == "millstream"] == []
