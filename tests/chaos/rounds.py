"""One round of chaos: processes on one ledger under load, killed and replaced, then drained and judged."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from millstream.testing import crash
from millstream.testing.history import Began, Died, Finished, ObservationLog
from millstream.testing.invariants import Violation, violations
from tests.chaos import children
from tests.chaos.client import Plan
from tests.chaos.verdict import history
from tests.chaos.witness import Witness

IN_A_NODE = frozenset({"before-effect", "after-effect"})
"""Points between the start of an attempt and the record of its end."""

OF_CLIENTS = ("submit-before-commit", "submit-after-commit", "after-cancel-row", "after-answer")
OF_WORKERS = (
    "after-claim",
    "before-effect",
    "after-effect",
    "in-commit",
    "after-commit",
    "after-join",
    "before-settle",
    "after-settle",
    "before-pause",
    "lease-renewal",
    "drain",
)

_OUTSIDE_PER_POINT = 3
_PATIENCE = 2.5
_DRAIN_SECONDS = 120.0
_LOOK_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a round is played.

    Attributes:
        url: The ledger's.
        home: An empty directory for what is logged.
        seed: Decides what chance decides here; the machine's own timing is beyond it.
        kills: How many processes are killed.
        workers: How many workers run at once, beside one client.
        has_proof: Whether a death is proved by a lock; else the lease has to run out.
        lease: Its seconds.
        action: What happens at a crash point.
        points: The crash points at which processes are killed in turn, beside those that are killed from outside.
    """

    url: str
    home: Path
    seed: int
    kills: int
    workers: int = 3
    has_proof: bool = True
    lease: float = 3.0
    action: crash.Action = "kill"
    points: tuple[str, ...] = (*OF_WORKERS, *OF_CLIENTS)

    @property
    def executor(self) -> str:
        """What executes, in a word."""
        return "itself"


@dataclass
class Outcome:
    """What became of a round.

    Attributes:
        setup: How it was played.
        kills: How many processes were killed.
        in_a_node: How many of them had a node running.
        points: How many were killed at each crash point.
        jobs: How many jobs were accepted.
        violations: The invariants that did not hold.
        seconds: How long it took.
    """

    setup: Setup
    kills: int = 0
    in_a_node: int = 0
    points: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Child:
    """A living process.

    Attributes:
        kind: `worker` or `client`.
        pid: Its id.
        point: The crash point at which it is to die; empty: it is killed from outside.
        due: When it is killed from outside at the latest; seconds of the monotonic clock.
    """

    kind: str
    pid: int
    point: str
    due: float


class Effects:
    """The effect log while it grows: which process has an effect under way."""

    def __init__(self, path: Path) -> None:
        """Begin at its beginning."""
        self._path = path
        self._offset = 0
        self._open: dict[int, set[str]] = {}

    def is_busy(self, pid: int) -> bool:
        """Whether a process began an effect that it has not finished."""
        self._read()
        return bool(self._open.get(pid))

    def _read(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for one in ObservationLog.parse(whole):
            if isinstance(one, Began):
                self._open.setdefault(one.pid, set()).add(one.mark)
            elif isinstance(one, Finished):
                self._open[one.pid].discard(one.mark)


class Round:
    """Plays one round.

    Args:
        setup: How.
    """

    _orderly: tuple[int, ...] = children.ORDERLY
    """Exit codes of processes that did not end by a fault of theirs."""

    def __init__(self, setup: Setup) -> None:
        """Prepare; nothing is started."""
        self._setup = setup
        self._outcome = Outcome(setup)
        self._chance = random.Random(setup.seed)  # noqa: S311  to be told by its seed
        self._children: list[Child] = []
        self._effects = Effects(setup.home / "effects")
        self._deaths = ObservationLog(setup.home / "deaths")
        self._witness = Witness(setup.url)
        self._plan = Plan("client", setup.seed, 24, setup.home / "client", setup.home / "stop")
        self._fates = self._make_fates()

    def play(self) -> Outcome:
        """Start, kill, replace, drain and judge."""
        begin = time.monotonic()
        try:
            self._found()
            self._run()
        finally:
            for child in self._children:
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        self._judge()
        self._forget()
        self._outcome.seconds = time.monotonic() - begin
        return self._outcome

    def _run(self) -> None:
        """Start, kill, replace and drain."""
        while self._outcome.kills < self._setup.kills:
            self._fill(is_armed=True)
            self._kill_who_is_due()
            self._bury()
            time.sleep(_LOOK_SECONDS)
        self._drain()

    # ------------------------------------------------------------------------------------------------- processes
    def _found(self) -> None:
        """Make the ledger; the first process that does is killed at it."""
        pid = self._fork(children.found, crash.Crash("migration", 1, "kill"))
        self._reaped(pid, "migration", was_busy=False)
        pid = self._fork(children.found, None)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"the ledger cannot be made: {self._said()}")
        self._witness.install()

    def _fork(self, work: Callable[[], None], at: crash.Crash | None) -> int:
        setup = self._setup
        variables = children.environment(
            setup.url, setup.home, setup.lease, has_proof=setup.has_proof, at=str(at or "")
        )
        return children.fork(work, variables | self._further_variables(), setup.home / "said")

    def _further_variables(self) -> dict[str, str]:
        """Return environment variables of the processes, beyond those that all rounds have."""
        return {}

    def _fill(self, *, is_armed: bool) -> None:
        """Replace who is missing."""
        kinds = Counter(child.kind for child in self._children)
        missing = ["client"] * (1 - kinds["client"]) + ["worker"] * (self._setup.workers - kinds["worker"])
        for kind in missing:
            point = next(self._fates[kind]) if is_armed else ""
            nth = self._chance.randint(1, 8) if point in IN_A_NODE else 1
            at = crash.Crash(point, nth, self._setup.action) if point else None
            work = children.work if kind == "worker" else partial(children.submit, self._plan)
            wait = _PATIENCE if point not in ("", "drain") else self._chance.uniform(0.1, 0.8)
            self._children.append(Child(kind, self._fork(work, at), point, time.monotonic() + wait))

    def _make_fates(self) -> dict[str, Iterator[str]]:
        """Yield, for each kind, how its next process is to die: most of them from outside, in a node."""

        def fates(points: tuple[str, ...]) -> Iterator[str]:
            chance = random.Random(self._setup.seed + len(points))  # noqa: S311  as above
            while True:
                for point in chance.sample(points, len(points)):
                    yield point
                    yield from [""] * _OUTSIDE_PER_POINT

        given = [point for point in self._setup.points if (point, self._setup.action) != ("drain", "term")]
        return {
            "worker": fates(tuple(point for point in given if point in OF_WORKERS)),
            "client": fates(tuple(point for point in given if point in OF_CLIENTS)),
        }

    # ----------------------------------------------------------------------------------------------------- deaths
    def _kill_who_is_due(self) -> None:
        for child in list(self._children):
            if time.monotonic() < child.due:
                continue
            if child.point == "drain":
                os.kill(child.pid, signal.SIGTERM)
                child.due += _PATIENCE
            elif self._effects.is_busy(child.pid) and self._outcome.kills < self._setup.kills:
                self._children.remove(child)
                os.kill(child.pid, signal.SIGKILL)
                self._deaths.put(Died(pid=child.pid))
                self._reaped(child.pid, "", was_busy=True)

    def _bury(self) -> None:
        """Take note of who is dead."""
        for child in list(self._children):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._children.remove(child)
                self._note_death(child, status)

    def _reaped(self, pid: int, point: str, *, was_busy: bool) -> None:
        _, status = os.waitpid(pid, 0)
        self._note_death(Child("", pid, point, 0.0), status, was_busy=was_busy)

    def _note_death(self, child: Child, status: int, *, was_busy: bool | None = None) -> None:
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not is_killed and os.waitstatus_to_exitcode(status) not in self._orderly:
            raise RuntimeError(f"a {child.kind} ended by itself with status {status}: {self._said()}")
        if not is_killed and not (child.point and self._setup.action == "term"):
            return
        self._outcome.kills += 1
        self._outcome.points[child.point or "from outside"] += 1
        busy = self._effects.is_busy(child.pid) if was_busy is None else was_busy
        self._outcome.in_a_node += busy or child.point in IN_A_NODE

    def _said(self) -> str:
        said = self._setup.home / "said"
        return said.read_text(errors="replace")[-4000:] if said.exists() else ""

    # -------------------------------------------------------------------------------------------------- the end
    def _drain(self) -> None:
        """Let everything come to its end, under processes that nobody kills."""
        for child in self._children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        self._children.clear()
        self._plan.stop.touch()
        self._fill(is_armed=False)
        end = time.monotonic() + _DRAIN_SECONDS
        while any(child.kind == "client" for child in self._children) or self._open_jobs():
            self._bury()
            if time.monotonic() > end:
                break
            time.sleep(_LOOK_SECONDS)
        for child in self._children:
            os.kill(child.pid, signal.SIGTERM)
        for child in self._children:
            os.waitpid(child.pid, 0)
        self._children.clear()

    def _open_jobs(self) -> int:
        return self._witness.count(
            "SELECT count(*) FROM millstream_job WHERE state NOT IN ('succeeded', 'failed', 'cancelled')"
        )

    def _judge(self) -> None:
        home = self._setup.home
        jobs = [job for (job,) in self._witness.rows("SELECT id FROM millstream_job")]
        pid = self._fork(partial(children.read, jobs, home / "late"), None)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"the ledger cannot be read: {self._said()}")
        judged = history(self._witness, [home / name for name in ("client", "effects", "deaths", "late")])
        self._outcome.jobs = len(jobs)
        self._outcome.violations = violations(judged)

    def _forget(self) -> None:
        """Let all jobs be forgotten, by a process that is killed at it, and by another."""
        jobs = [job for (job,) in self._witness.rows("SELECT id FROM millstream_job")]
        forget = partial(children.forget, jobs)
        pid = self._fork(forget, crash.Crash("retention", 1, "kill"))
        self._reaped(pid, "retention", was_busy=False)
        for table in ("event", "segment", "claim"):
            orphans = f"SELECT count(*) FROM millstream_{table} WHERE job NOT IN (SELECT id FROM millstream_job)"  # noqa: S608
            self._expect_none(orphans, f"rows of {table} without their job")
        if os.waitpid(self._fork(forget, None), 0)[1]:
            raise RuntimeError(f"the jobs cannot be forgotten: {self._said()}")
        for table in ("job", "event", "segment", "claim"):
            self._expect_none(f"SELECT count(*) FROM millstream_{table}", f"rows of {table} that were to be forgotten")  # noqa: S608

    def _expect_none(self, query: str, what: str) -> None:
        if count := self._witness.count(query):
            self._outcome.violations.append(Violation("I15", "", f"there are {count} {what}"))
