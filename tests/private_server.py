"""A private server of the tests, whatever it serves: how it is started, stopped, killed and paused.

It runs as an ordinary user, on ports of its own, with its data in a directory of its own, and ends with the process
that started it, however that ends.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from tests.lifeline import (
    await_end,
    descendants,
    end_with_parent,
    free_port,
    new_home,
    ordinary_user,
    send,
    stopped_family,
)

_START_SECONDS = 120.0
_STOP_SECONDS = 120.0
_LOOK_SECONDS = 0.01


class PrivateServer(ABC):
    """A server that a test has to itself. Use it as a context manager: at the end it is killed and its data removed.

    Args:
        parent: Where its directory is made; without, in memory where that is possible.

    Attributes:
        name: What it is called.
        stop_signal: What lets it stop in order.
        quit_signal: What ends it at once.
        port: Where it listens, on 127.0.0.1 only; the same after each start.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    quit_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, parent: Path | None = None) -> None:
        """Start nothing yet."""
        self.port = free_port()
        self._parent = parent
        self._home: Path | None = None
        self._lock: BinaryIO | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -------------------------------------------------------------------------------- what a kind of server says
    @abstractmethod
    def _command(self, home: Path) -> Sequence[str | Path]:
        """Return how it is started; its directory is its working directory."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether it answers."""

    def _prepare(self, home: Path) -> None:  # noqa: B027  not all need anything
        """Make what has to lie in its new directory before the first start."""

    def _environment(self, home: Path) -> Mapping[str, str] | None:  # noqa: ARG002  others need the directory
        """Return its environment; `None` is that of the tests."""
        return None

    # -------------------------------------------------------------------------------- what a test does with it
    @property
    def log(self) -> str:
        """What it said so far."""
        path = self._made_home() / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it answers; one that runs already stays as it is.

        Raises:
            RuntimeError: It ended, or did not answer; with what it said.
        """
        if self._process is not None:
            return
        self._process = self._spawn(*self._command(self._made_home()))
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"{self.name} did not start: {self.log[-2000:]}")
            time.sleep(_LOOK_SECONDS)  # there is nothing else to wait for

    def stop(self) -> None:
        """Stop it in order; one that does not run is left alone."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """Kill it with all its processes, as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop its processes where they are: connections stay open, and nobody answers."""
        if self._process is not None:
            send(signal.SIGSTOP, *stopped_family(self._process.pid))

    def resume(self) -> None:
        """Let its processes go on."""
        if self._process is not None:
            send(signal.SIGCONT, self._process.pid, *descendants(self._process.pid))

    def close(self) -> None:
        """End it at once, and remove its data."""
        self._end(self.quit_signal)
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # -------------------------------------------------------------------------------- how it is done
    def _made_home(self) -> Path:
        """Return its directory; on first use it is made, with what has to lie in it."""
        if self._home is None:
            self._home, self._lock = new_home(f"{self.name.lower()}-", self._parent)
            self._prepare(self._home)
        return self._home

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start one of its programs, whose output goes to its log."""
        home = self._made_home()
        with (home / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=home,
                env=self._environment(home),
                user=ordinary_user(),
                extra_groups=[] if ordinary_user() is not None else None,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=partial(end_with_parent, self.quit_signal),  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )

    def _run(self, *command: str | Path) -> str:
        """Run one of its programs to its end, and return what it said.

        Raises:
            RuntimeError: It failed; with what it said.
        """
        home = self._made_home()
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=home,
            env=self._environment(home),
            user=ordinary_user(),
            extra_groups=[] if ordinary_user() is not None else None,
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} {' '.join(map(str, command[1:]))} failed: {said}")
        return said

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _, *left = stopped_family(process.pid)
        send(how, process.pid)
        send(signal.SIGKILL if how is signal.SIGKILL else signal.SIGCONT, *left)
        send(signal.SIGCONT, process.pid)
        try:
            process.wait(_STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for pid in left:  # they hold memory and ports, without which it cannot start again
                await_end(pid)
