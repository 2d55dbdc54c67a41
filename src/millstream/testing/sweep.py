"""`crash_sweep`: kills a flow at every crash point that it reaches, and looks whether it goes on as promised."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from millstream.authoring.flow import Flow
from millstream.authoring.task import Task

SECONDS = 120.0
"""How long a sweep takes at most. What it could not try in this time is told in its report."""

PER_POINT = 3
"""How often each crash point is tried: the first time that it is reached, the last, and times in between."""


class SweepError(AssertionError):
    """Raised when a flow that was killed did not go on as promised; the message is the sweep's report."""


class Try(msgspec.Struct, frozen=True):
    """One run that was killed, and went on in another process.

    Attributes:
        point: The crash point at which it was killed.
        nth: When: the time that the point was reached, from 1.
        is_killed: Whether it came to that; another run need not reach a point as often.
        problem: What was not as promised.
    """

    point: str
    nth: int
    is_killed: bool
    problem: str | None = None


class Sweep(msgspec.Struct, frozen=True):
    """What came of a sweep; as text, a table.

    Attributes:
        flow: The flow's name.
        result: What it returns where nobody kills it, as Python writes it.
        reached: How often each crash point was reached then.
        tries: The runs that were killed.
        left_out: How many were not tried, for want of time.
    """

    flow: str
    result: str
    reached: dict[str, int]
    tries: tuple[Try, ...] = ()
    left_out: int = 0

    @property
    def problems(self) -> list[Try]:
        """The runs in which something was not as promised."""
        return [one for one in self.tries if one.problem]

    def __str__(self) -> str:
        """Return a table: a row for each crash point, and a line for each problem."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.flow} returned {self.result}"
        yield f"{'crash point':<20} {'reached':>7} {'killed':>6} {'as promised':>11}"
        for point, times in sorted(self.reached.items()):
            tries = [one for one in self.tries if one.point == point]
            killed, wrong = sum(one.is_killed for one in tries), sum(bool(one.problem) for one in tries)
            yield f"{point:<20} {times:>7} {killed:>6} {len(tries) - wrong:>11}"
        yield from (f"killed at {one.point}, time {one.nth}: {one.problem}" for one in self.problems)
        if self.left_out:
            yield f"{self.left_out} more were not tried: the {SECONDS:g} s were over"


class Order(NamedTuple):
    """What the sweeping process is told.

    Attributes:
        path: Where modules are imported from.
        module: The module with the flow.
        flow: The flow's name.
        inputs: Its inputs by name.
        directory: Where ledgers are made, and the report.
        seconds: When no further run is begun.
        per_point: See `PER_POINT`.
    """

    path: list[str]
    module: str
    flow: str
    inputs: dict[str, Any]
    directory: str
    seconds: float
    per_point: int


def crash_sweep(flow: Flow | Task[Any, Any], /, **inputs: Any) -> Sweep:
    """Kill a flow at every crash point that it reaches, and see that another process goes on with it.

    The flow runs once undisturbed, on a new ledger in a temporary SQLite file. Then it runs again, in processes that
    are killed (SIGKILL) at one crash point after the other; each time another process opens the same ledger and brings
    the job to its end. It has to end in the same state and with the same result, the job must neither be lost nor be
    there twice, and no task with `effect="once"` may have run twice. Where such a task was killed, the decision that
    the job waits for is that it succeeded, with the value of the undisturbed run.

    It takes some seconds; at most `SECONDS`, and 30 for any one run. It needs `fork`, so it does not work on Windows.
    A flow that waits for an approval cannot be swept: nobody answers.

    Args:
        flow: A flow or task that stands at the top level of a module, other than the program's main file.
        inputs: Its inputs by name; they have to be pickleable.

    Returns:
        The report, if all was as promised.

    Raises:
        SweepError: Something was not as promised.
        ValueError: The flow does not stand in a module that can be imported.
        RuntimeError: It does not run even when nobody kills it; the message tells why.

    Example:
        from millstream.testing import crash_sweep
        from shop.flows import order

        def test_an_order_survives_a_kill_anywhere():
            crash_sweep(order, article="book", count=2)
    """
    module = _module_of(flow)
    with tempfile.TemporaryDirectory(prefix="millstream-sweep-") as directory:
        order = Order(sys.path, module, flow.name, inputs, directory, SECONDS, PER_POINT)
        done = subprocess.run(
            [sys.executable, "-m", "millstream.testing.sweeper"],
            input=pickle.dumps(order),
            capture_output=True,
            timeout=2 * SECONDS,
            check=False,
        )
        report = Path(directory) / "report"
        if done.returncode or not report.exists():
            said = done.stderr.decode(errors="replace").strip()
            raise RuntimeError(f"{flow.name} could not be swept:\n{said}")
        sweep = msgspec.json.decode(report.read_bytes(), type=Sweep)
    if sweep.problems:
        raise SweepError(str(sweep))
    return sweep


def _module_of(flow: Flow | Task[Any, Any]) -> str:
    for name, module in list(sys.modules.items()):
        if name != "__main__" and any(value is flow for value in list(vars(module).values())):
            return name
    raise ValueError(f"{flow!r} does not stand at the top level of a module that another process could import")
