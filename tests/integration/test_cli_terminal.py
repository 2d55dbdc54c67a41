"""On a terminal a bar shows how a job goes; Ctrl-C stops it, and a second one kills it."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.integration.cli_program import is_gone, on_terminal, wait_until

FLOWS = """
    import asyncio, os, sys, time
    from pathlib import Path
    from millstream import ctx, flow, task

    async def told(name):
        while not Path(name).exists():
            await asyncio.sleep(0.005)

    @task
    async def step(number: int) -> int:
        if number == 1:
            raise ValueError("no rows")
        if number == 2:
            ctx.log("a long step", level="warning", rows=7)
            print("printed by a task")
            ctx.progress(3, 10, "third row")
            await told("go on")
        return number

    @task(run_in="process")
    def apart() -> None:
        print("printed by a process")

    @flow
    def steps():
        return [apart(), *(step(n) for n in range(3))]

    @flow
    async def turns():
        for number in (0, 2):
            await step(number)
        return "done"

    @task
    async def stubborn() -> None:
        Path("running").touch()
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass

    @task(run_in="process")
    def spin() -> int:
        Path("spinning.tmp").write_text(str(os.getpid()))
        os.rename("spinning.tmp", "spinning")
        return sum(range(10**15))

    @flow
    def both():
        return [stubborn(), spin()]

    @task(run_in="loop")
    def block() -> None:
        Path("running").touch()
        time.sleep(1000)

    @flow
    def endless():
        Path("drawing").touch()
        while True:
            pass

    @task
    def many() -> list[int]:
        return list(range(100_000))
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(dedent(FLOWS), encoding="utf-8")
    return tmp_path


def test_the_bar_counts_nodes_and_what_tasks_say_stands_above_it(work: Path) -> None:
    with on_terminal("run", "shop.py:steps", cwd=work) as terminal:
        terminal.wait_for(r"steps +━[━╸╺]+ +3/4  1 running  1 failed  \d:\d\d  eta \d:\d\d")
        terminal.wait_for(r"  step-3  3/10  third row")
        (work / "go on").touch()
        assert terminal.wait() == 1
    assert "  step-3  a long step  rows=7" in terminal.text
    for line in ("printed by a task", "printed by a process"):
        assert terminal.text.count(f"{line}\r\n") == 1
    assert "✗ steps failed after " in terminal.text
    assert "  step-2  ValueError: no rows  shop.py:13\r\n" in terminal.text
    assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")  # the cursor is shown again


def test_of_a_conducting_flow_nobody_knows_how_much_is_left(work: Path) -> None:
    with on_terminal("run", "shop.py:turns", cwd=work) as terminal:
        terminal.wait_for(r"turns +━+ +1  2 running  \d:\d\d\r?\n?")
        (work / "go on").touch()
        assert terminal.wait() == 0
    assert "eta" not in terminal.text
    assert terminal.text.rstrip().endswith("done")


def test_ctrl_c_cancels_the_job_and_says_so(work: Path) -> None:
    with on_terminal("run", "shop.py:steps", cwd=work) as terminal:
        terminal.wait_for(r"1 running  1 failed")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "■ steps cancelled after " in terminal.text
    assert "4 nodes: 2 succeeded, 1 failed, 1 cancelled" in terminal.text


def test_a_second_ctrl_c_kills_everything_at_once(work: Path) -> None:
    with on_terminal("run", "shop.py:both", cwd=work) as terminal:
        wait_until(lambda: (work / "running").exists() and (work / "spinning").exists(), "both tasks run")
        terminal.type("\x03")
        terminal.wait_for("cancelling; another Ctrl-C kills at once")
        terminal.type("\x03")
        assert terminal.wait() == 130
    wait_until(lambda: is_gone(int((work / "spinning").read_text(encoding="utf-8"))), "the pool process is gone")
    assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")


def test_ctrl_c_twice_kills_even_where_a_task_blocks_the_event_loop(work: Path) -> None:
    with on_terminal("run", "shop.py:block", cwd=work) as terminal:
        wait_until((work / "running").exists, "the task runs")
        terminal.type("\x03")
        terminal.wait_for("cancelling; another Ctrl-C kills at once")
        terminal.type("\x03")
        assert terminal.wait() == 130


def test_ctrl_c_while_the_flow_is_drawn_ends_the_program(work: Path) -> None:
    with on_terminal("run", "shop.py:endless", cwd=work, MILLSTREAM_DRAW_TIMEOUT="60") as terminal:
        wait_until((work / "drawing").exists, "the flow is drawn")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert "millstream: stopped before the job was submitted" in terminal.text


def test_a_long_result_is_cut_where_it_would_flood_the_terminal(work: Path) -> None:
    with on_terminal("run", "shop.py:many", cwd=work) as terminal:
        assert terminal.wait() == 0
    assert "… cut here; --json gives all" in terminal.text
    assert "99999" not in terminal.text


def test_a_terminal_that_cannot_move_its_cursor_gets_lines_only(work: Path) -> None:
    (work / "go on").touch()
    with on_terminal("run", "shop.py:steps", cwd=work, TERM="dumb") as terminal:
        assert terminal.wait() == 1
    assert "\x1b" not in terminal.raw
    assert "━" not in terminal.text
