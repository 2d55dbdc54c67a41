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
    assert where.delay().get(timeout=10) != threading.get_ident()
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


def test_its_fixtures_and_marker_do_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
    assert not (tmp_path / ".millstream").exists()


def test_a_run_that_does_not_use_it_does_not_load_millstream() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "pytest_millstream" in loaded
    assert [name for name in loaded if name.partition(".")[0] == "millstream"] == []
