"""Crash points do nothing until they are armed, and then what they were armed with, when they were told to."""

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream import points
from millstream.testing.crash import AT, LOG, Armed, Crash, CrashError, arm_from
from millstream.testing.history import Died, ObservationLog

SOURCE = Path(points.__file__).parent
CHILD = """
import os
from millstream import points
from millstream.testing.crash import arm_from
arm_from(os.environ)
for name in ["after-claim", "in-commit", "after-claim", "after-claim"]:
    print(name, flush=True)
    points.reach(name)
"""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    points.arm(None)


def child(at: str, log: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, AT: at, LOG: str(log)}
    return subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)


def places() -> set[str]:
    """Return the crash points that the product reaches somewhere."""
    found: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if "testing" in path.relative_to(SOURCE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("reach") | ast.Attribute(attr="reach"), args=[argument]):
                    names = (one.value for one in ast.walk(argument) if isinstance(one, ast.Constant))
                    found.update(name for name in names if isinstance(name, str))
    return found


def test_nothing_happens_at_a_point_that_is_not_armed() -> None:
    for name in points.POINTS:
        points.reach(name)


def test_every_point_is_reached_somewhere() -> None:
    assert places() == points.POINTS


def test_only_points_that_there_are_are_reached() -> None:
    points.arm(Armed())
    with pytest.raises(ValueError, match="no-such-point"):
        points.reach("no-such-point")


def test_it_happens_the_time_it_was_told_to_and_only_then() -> None:
    points.arm(armed := Armed(Crash.parse("after-claim:2:raise")))
    points.reach("after-claim")
    points.reach("in-commit")
    with pytest.raises(CrashError, match="after-claim"):
        points.reach("after-claim")
    points.reach("after-claim")
    assert armed.reached == {"after-claim": 3, "in-commit": 1}


def test_a_star_stands_for_every_point() -> None:
    points.arm(Armed(Crash.parse("*:3:raise")))
    points.reach("after-claim")
    points.reach("in-commit")
    with pytest.raises(CrashError, match="drain"):
        points.reach("drain")


def test_a_seed_makes_chance_the_same_again() -> None:
    def when(seed: int) -> list[int]:
        points.arm(Armed(Crash.parse(f"in-commit:0.1@{seed}:raise")))
        times = []
        for number in range(200):
            try:
                points.reach("in-commit")
            except CrashError:
                times.append(number)
        return times

    assert when(7) == when(7) != when(8)
    assert 5 < len(when(7)) < 50


def test_a_killed_process_is_gone_where_it_was_told_to_and_has_said_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with child("after-claim:2:kill", log) as process:
        said = process.communicate(timeout=120)[0]
    assert process.returncode == -signal.SIGKILL
    assert said.split() == ["after-claim", "in-commit", "after-claim"]
    assert ObservationLog(log).read() == (Died(pid=process.pid, how="kill", point="after-claim"),)


def test_a_stopped_process_goes_on_when_it_is_told_to(tmp_path: Path) -> None:
    with child("in-commit:1:stop", tmp_path / "log") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=120)[0]
    assert (process.returncode, len(said.split())) == (0, 4)


def test_several_crashes_are_separated_by_commas() -> None:
    armed = arm_from({AT: "in-commit:2:raise, after-claim:1:raise"})
    assert armed is not None
    for name in ["in-commit", "after-claim", "in-commit"]:
        with pytest.raises(CrashError) if armed.reached["in-commit"] else pytest.MonkeyPatch.context():
            points.reach(name)


def test_without_a_word_nothing_is_armed() -> None:
    assert arm_from({}) is None
    assert arm_from({AT: ""}) is None


@pytest.mark.parametrize(
    "wrong", ["", "after-claim", "after-claim:0:kill", "nowhere:1:kill", "drain:1:burn", "drain:x@1:kill"]
)
def test_what_is_no_crash_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(wrong))):
        Crash.parse(wrong)


@pytest.mark.parametrize("text", ["after-claim:3:kill", "*:0.02@7:stop"])
def test_a_crash_is_written_as_it_is_read(text: str) -> None:
    assert str(Crash.parse(text)) == text
