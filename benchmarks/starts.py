"""What it takes to begin: importing a system in a fresh interpreter, and getting a first result out of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.environments import ROOT, NotInstalledError, python_for
from benchmarks.places import new_directory

ROUNDS = 10

_PROGRAM = """
import json, sys, time
begun = time.perf_counter()
{imports}
imported = time.perf_counter()
def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
rss = memory() if sys.platform == "linux" else None
{first}
ended = time.perf_counter()
print(json.dumps(dict(import_seconds=imported - begun, first_seconds=ended - begun, rss=rss)))
"""

_OURS = (
    "import millstream",
    """
@millstream.task
async def one(): return 1
@millstream.flow
def flow(): return one()
assert flow.run() == 1
""",
)

_FIRST = {
    "nothing": ("", ""),
    "millstream": _OURS,
    "millstream-sqlite": _OURS,
    "langgraph": (
        "import langgraph.graph",
        """
graph = langgraph.graph.StateGraph(dict)
graph.add_node("one", lambda _: {"one": 1})
graph.add_edge(langgraph.graph.START, "one")
assert graph.compile().invoke({}) == {"one": 1}
""",
    ),
    "hamilton": (
        "from hamilton import ad_hoc_utils, base, driver",
        """
def one() -> int: return 1
module = ad_hoc_utils.create_temporary_module(one, module_name="flow")
assert driver.Builder().with_modules(module).with_adapters(base.DictResult()).build().execute(["one"]) == {"one": 1}
""",
    ),
}


@dataclass
class Start:
    """One system's beginnings: seconds by round, and bytes of memory after the import (Linux only)."""

    system: str
    import_seconds: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    rss: int | None = None
    reason: str | None = None


def measure(systems: Sequence[str]) -> list[Start]:
    """Start fresh interpreters of all systems in turn."""
    starts = {name: Start(name) for name in ("nothing", *systems)}
    for _ in range(ROUNDS):
        for name, start in starts.items():
            if start.reason is None:
                _take(start, name)
    return list(starts.values())


def _take(start: Start, name: str) -> None:
    imports, first = _FIRST[name]
    try:
        command = [python_for(name), "-c", _PROGRAM.format(imports=imports, first=first)]
    except NotInstalledError as why:
        start.reason = str(why)
        return
    directory = new_directory()
    durability = {
        "MILLSTREAM_DURABILITY": "full" if name == "millstream-sqlite" else "off",
        "MILLSTREAM_DATABASE_URL": f"sqlite:///{directory / 'ledger.db'}",
    }
    done = subprocess.run(  # noqa: S603  our own program
        command,
        cwd=ROOT,
        env=os.environ | durability | {"HAMILTON_TELEMETRY_ENABLED": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(directory)
    if done.returncode:
        start.reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return
    figures: dict[str, Any] = json.loads(done.stdout)
    start.import_seconds.append(figures["import_seconds"])
    start.first_seconds.append(figures["first_seconds"])
    start.rss = figures["rss"]
