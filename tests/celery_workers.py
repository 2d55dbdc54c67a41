"""Workers for tests, as users start them: `millstream worker`, or Celery's own program on our app."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.lifeline import children, die_with_parent, send

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 120.0
_READY = r"\bready\b"  # both programs say so
_PROGRAM = "import sys; from millstream.cli.program import main; sys.exit(main())"
_CELERY = "import sys; from celery.__main__ import main; sys.argv[0] = 'celery'; sys.exit(main())"


class Worker:
    """A worker process with its children, which is killed with all of them at the end.

    Args:
        app: The module of its tasks and flows.
        log: The file that it writes to; it is appended to.
        settings: Settings of millstream by their names, such as `broker_url`.
        pool: Its pool: `prefork`, or `async` for coroutines; without, the program's own choice.
        concurrency: How many children or segments it has.
        queues: The queues that it serves.
        options: Further options.
        program: With which program it is started: `millstream worker` or `celery -A millstream.worker worker`.
        changes: Lines of Python that are run before it: parts of the program that the test replaces.

    Attributes:
        process: The process.
    """

    def __init__(  # noqa: PLR0913  these are the options of a program
        self,
        app: str,
        log: Path,
        settings: Mapping[str, str],
        *,
        pool: str | None = None,
        concurrency: int | None = None,
        queues: Sequence[str] = (),
        options: Sequence[str] = (),
        program: Literal["millstream", "celery"] = "millstream",
        changes: Sequence[str] = (),
    ) -> None:
        chosen = [*(["-P", pool] if pool else []), *(["-c", str(concurrency)] if concurrency else [])]
        chosen += [*(["-Q", ",".join(queues)] if queues else []), *options]
        if program == "millstream":
            command = [*_python(changes, _PROGRAM), "worker", "-A", app, *chosen]
        else:
            settings = {"imports": app, **settings}
            command = [*_python(changes, _CELERY), "-A", "millstream.worker", "worker", "--loglevel", "INFO", *chosen]
        self._log = log
        with log.open("ab") as output:
            self._begin = output.tell()
            self.process = subprocess.Popen(
                command,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )

    @property
    def pid(self) -> int:
        """The main process."""
        return self.process.pid

    @property
    def said(self) -> str:
        """What it wrote so far."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace")

    def children(self) -> list[int]:
        """Return the processes that it has started: those of a prefork pool, and of functions with `run_in`."""
        return children(self.pid)

    def wait_ready(self) -> Worker:
        """Wait until it takes work."""
        self.wait_for(_READY)
        return self

    def wait_for(self, pattern: str) -> None:
        """Wait until it has said something."""
        until = time.monotonic() + _SECONDS
        while not re.search(pattern, self.said):
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self} did not say {pattern!r}, but: {self.said[-4000:]}")
            time.sleep(0.01)

    def send(self, how: signal.Signals) -> None:
        """Send it a signal, to the main process only."""
        send(how, self.pid)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        return self.process.wait(_SECONDS)

    def pause(self) -> None:
        """Stop it with all its children where they are."""
        send(signal.SIGSTOP, *self.session())

    def resume(self) -> None:
        """Let them go on."""
        send(signal.SIGCONT, *self.session())

    def kill(self) -> None:
        """Kill it with all its children."""
        left = self.session()
        while left:  # one that is being killed may just have started another
            send(signal.SIGKILL, *left)
            self.process.wait(_SECONDS)
            left = self.session()
        self.process.wait(_SECONDS)

    def __repr__(self) -> str:
        """Return a form that tells its process and how that stands."""
        return f"<Worker {self.pid}, exit code {self.process.poll()}>"

    def session(self) -> list[int]:
        """Return all processes that it has started and that live, with itself: they are in a session of their own."""
        found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return [pid for pid in found if _session_of(pid) == self.pid]


@contextmanager
def workers(log: Path, settings: Mapping[str, str]) -> Iterator[Workers]:
    """Give what starts workers with settings; at the end they are killed."""
    started = Workers(log, settings)
    try:
        yield started
    finally:
        started.close()


class Workers:
    """Starts workers, all with the same settings and one log.

    Args:
        log: The file that they write to.
        settings: Settings by their names: the ledger, the broker.

    Attributes:
        settings: The settings.
    """

    def __init__(self, log: Path, settings: Mapping[str, str]) -> None:
        self._log, self.settings = log, dict(settings)
        self._all: list[Worker] = []

    def start(self, app: str, *, pool: str | None = None, **options: object) -> Worker:
        """Start one, and wait until it is ready; the options are those of `Worker`."""
        worker = Worker(app, self._log, self.settings, pool=pool, **options)  # type: ignore[arg-type]
        self._all.append(worker)
        return worker.wait_ready()

    def close(self) -> None:
        """Kill them all."""
        for worker in self._all:
            worker.kill()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which nobody but the test has set anything."""
    foreign = ("MILLSTREAM_", "LANGFLOW_", "CELERY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT)} | {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}


def _python(changes: Sequence[str], program: str) -> list[str]:
    return [sys.executable, "-P", "-c", "\n".join((*changes, program))]


def _session_of(pid: int) -> int | None:
    """Return the session that a living process is in."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[3]) if fields[0] not in "ZX" else None
