"""`millstream run` runs what a file defines, and says how it went: to people, to programs, and by its exit code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.integration.cli_program import PROGRAM, environment, is_gone, millstream, started, wait_until

FLOWS = """
    import asyncio, os, time
    from pathlib import Path
    from millstream import ctx, flow, task

    @task
    def greet(name: str) -> str:
        ctx.log("greeting", name=name)
        print("in a thread")
        return f"Hello, {name}!"

    @task(run_in="process")
    def shout(words: list[str]) -> str:
        print("in a process")
        return " ".join(words).upper()

    @flow
    def hello(names: tuple[str, ...] = ("Ada", "Grace")):
        return shout(greet.map(names))

    @task
    def check(number: int) -> int:
        if number == 3:
            raise ValueError("three\\nis bad")
        return number

    @flow
    def checks(upto: int = 5):
        return check.map(list(range(upto)))

    @flow
    async def conducted(number: int):
        return await check(number) + 1

    @task
    def data() -> dict:
        return {"rows": [{"name": "Ada", "sizes": (1, 2)}] * 3, "none": None}

    @task
    def odd() -> object:
        return {"odd": object}

    @task
    def many() -> list[int]:
        return list(range(100_000))

    @task
    async def nap() -> None:
        Path("napping").touch()
        await asyncio.sleep(1000)

    @task(run_in="process")
    def spin() -> int:
        Path("spinning.tmp").write_text(str(os.getpid()))
        os.rename("spinning.tmp", "spinning")
        return sum(range(10**15))

    @task(run_in="process", timeout=3)
    def late() -> None:
        print("said before the end")
        time.sleep(1000)

    @flow
    def endless():
        while True:
            pass

    @flow
    def choosy(priority: int, expires: int):
        return check(priority + expires)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(dedent(FLOWS), encoding="utf-8")
    return tmp_path


def test_the_result_goes_to_standard_output_and_everything_about_it_to_standard_error(work: Path) -> None:
    done = millstream("run", "shop.py:hello", "-i", 'names=["Ada", "Edsger"]', cwd=work)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "HELLO, ADA! HELLO, EDSGER!"
    assert "greet[1]  greeting  name=Edsger" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("✓ hello succeeded in ")
    assert done.stderr.endswith(" · 4 nodes\n")


def test_json_is_the_only_line_on_standard_output_whatever_tasks_print(work: Path) -> None:
    done = millstream("run", "shop.py:hello", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(told) == ["job_id", "flow", "state", "reason", "result", "error", "seconds", "nodes"]
    assert (told["flow"], told["state"], told["reason"]) == ("shop.hello", "succeeded", None)
    assert (told["result"], told["nodes"]) == ("HELLO, ADA! HELLO, GRACE!", {"succeeded": 4})
    assert "in a thread" in done.stderr
    assert "in a process" in done.stderr


def test_a_failed_job_ends_with_1_and_lists_its_failed_nodes_with_their_places(work: Path) -> None:
    done = millstream("run", "shop.py:checks", cwd=work)
    line = next(n for n, text in enumerate(FLOWS.splitlines()) if "three" in text)
    assert done.returncode == 1
    assert done.stdout == ""
    headline, failure = done.stderr.splitlines()
    assert headline.startswith("✗ checks failed after ")
    assert headline.endswith("6 nodes: 4 succeeded, 2 failed")
    assert failure.split("  ") == ["", "check[3]", "ValueError: three …", f"shop.py:{line + 1}"]


def test_json_tells_what_failed_a_job(work: Path) -> None:
    done = millstream("run", "shop.py:checks", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert (done.returncode, told["state"], told["reason"], told["result"]) == (1, "failed", "error", None)
    assert told["error"]["type"] == "builtins:ValueError"
    assert told["error"]["node"] == "check[3]"
    assert "Traceback" in told["error"]["traceback"]


def test_a_conducting_flow_runs_as_a_drawing_one_does(work: Path) -> None:
    done = millstream("run", "shop.py:conducted", "-i", "number=4", cwd=work)
    assert (done.returncode, done.stdout) == (0, "5\n")


def test_inputs_that_are_named_like_arguments_of_submit_reach_the_flow(work: Path) -> None:
    done = millstream("run", "shop.py:choosy", "-i", "priority=4", "-i", "expires=40", cwd=work)
    assert (done.returncode, done.stdout) == (0, "44\n")


def test_results_are_written_as_json_that_is_easy_to_read(work: Path) -> None:
    done = millstream("run", "shop.py:data", cwd=work)
    assert json.loads(done.stdout) == {"rows": [{"name": "Ada", "sizes": [1, 2]}] * 3, "none": None}
    assert '    {"name": "Ada", "sizes": [1, 2]},\n' in done.stdout


def test_a_result_without_json_form_is_told_by_its_repr(work: Path) -> None:
    told = json.loads(millstream("run", "shop.py:odd", "--json", cwd=work).stdout)
    assert (told["result"], told["result_is_repr"]) == ("{'odd': <class 'object'>}", True)
    assert millstream("run", "shop.py:odd", cwd=work).stdout == "{'odd': <class 'object'>}\n"


def test_a_long_result_is_whole_where_it_is_piped(work: Path) -> None:
    assert json.loads(millstream("run", "shop.py:many", cwd=work).stdout) == list(range(100_000))


def test_a_reader_that_leaves_early_is_no_reason_to_complain(work: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        done = subprocess.run(
            [*PROGRAM, "run", "shop.py:many"],
            cwd=work,
            env=environment(),
            stdout=broken,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == []


def test_what_an_encoding_cannot_write_is_escaped_and_json_is_utf_8_all_the_same(work: Path) -> None:
    asked = ["run", "shop.py:greet", "-i", "name=Zoë"]
    assert millstream(*asked, cwd=work, PYTHONIOENCODING="ascii").stdout == "in a thread\nHello, Zo\\xeb!\n"
    done = millstream(*asked, "--json", cwd=work, PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["result"] == "Hello, Zoë!"


def test_a_program_without_standard_output_runs(work: Path) -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "run", "shop.py:hello"]
    done = subprocess.run(closed, cwd=work, env=environment(), stderr=subprocess.PIPE, text=True, check=True)
    assert done.stderr.splitlines()[-1].startswith("✓ hello succeeded")


@pytest.mark.parametrize("target", ["shop/deep/flows.py", "shop.deep.flows:whole"])
def test_a_module_of_a_package_runs_with_its_relative_imports_in_processes_too(tmp_path: Path, target: str) -> None:
    package = tmp_path / "shop" / "deep"
    package.mkdir(parents=True)
    for directory in (package, package.parent):
        (directory / "__init__.py").touch()
    task = "from millstream import task\n@task(run_in='process')\ndef part(): return __name__\n"
    (package / "tasks.py").write_text(task, encoding="utf-8")
    flow = "from millstream import flow\nfrom .tasks import part\n@flow\ndef whole(): return part()\n"
    (package / "flows.py").write_text(flow, encoding="utf-8")
    assert millstream("run", target, cwd=tmp_path).stdout == "shop.deep.tasks\n"


def test_the_only_task_of_a_file_runs_even_beside_files_named_like_python_s_own(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    one = "from millstream import task\n@task(run_in='process')\ndef one(): return 1\n"
    (tmp_path / "my-one.py").write_text(one, encoding="utf-8")
    done = millstream("run", "my-one.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_what_a_killed_process_has_printed_is_not_lost(work: Path) -> None:
    done = millstream("run", "shop.py:late", cwd=work, PYTHONUNBUFFERED="")
    assert (done.returncode, done.stdout) == (1, "said before the end\n")
    assert "late failed (timeout) after" in done.stderr


def test_a_flow_that_never_finishes_drawing_is_refused_and_the_program_ends(work: Path) -> None:
    done = millstream("run", "shop.py:endless", cwd=work, MILLSTREAM_DRAW_TIMEOUT="0.3")
    assert done.returncode == 2
    assert done.stderr.startswith("millstream: the body of flow shop.endless took over 0.3 s to draw")


def test_settings_come_from_the_env_file(work: Path) -> None:
    (work / "some.env").write_text("MILLSTREAM_DRAW_TIMEOUT=0.25\n", encoding="utf-8")
    done = millstream("run", "shop.py:endless", "--env-file", "some.env", cwd=work)
    assert "took over 0.25 s" in done.stderr


def test_sigterm_cancels_the_job_and_the_program_says_so(work: Path) -> None:
    with started("run", "shop.py:nap", "--json", cwd=work) as process:
        wait_until((work / "napping").exists, "the task runs")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    told = json.loads(out)
    assert (process.returncode, told["state"], told["reason"]) == (143, "cancelled", "cancel")
    assert told["nodes"] == {"cancelled": 1}
    assert err == "millstream: cancelling; a second signal kills at once\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killing_the_program_kills_a_process_that_never_gives_the_interpreter_up(work: Path) -> None:
    with started("run", "shop.py:spin", cwd=work) as process:
        wait_until((work / "spinning").exists, "the process runs")
        process.kill()
        child = int((work / "spinning").read_text(encoding="utf-8"))
        wait_until(lambda: is_gone(child), "the pool process is gone")


def test_debug_shows_the_traceback_of_what_failed(work: Path) -> None:
    done = millstream("run", "shop.py:checks", "--debug", cwd=work)
    assert "Traceback (most recent call last)" in done.stderr
    assert 'raise ValueError("three\\nis bad")' in done.stderr
