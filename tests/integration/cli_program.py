"""The real program, as tests start it: with pipes, or on a terminal of its own."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.warm_program import warm_program

SECONDS = 120.0
PROGRAM = [sys.executable, "-P", "-m", "millstream"]  # -P: the installed program does not import from here either
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")
# The terminal has to become the one of the session before the program starts: then Ctrl-C typed there is a SIGINT. A
# shell that was told to run the tests in the background lets them ignore it, which a program would inherit.
_ON_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which nobody has set anything."""
    foreign = ("MILLSTREAM_", "LANGFLOW_", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"TERM": "xterm-256color"} | extra


def millstream(*arguments: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; as a fork, which is quick, where nothing is asked of the interpreter itself."""
    if not any(name.startswith("PYTHON") for name in extra):
        return warm_program().run(arguments, cwd, environment(**extra), SECONDS)
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def started(*arguments: str, cwd: Path, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """Start the program with pipes; it is killed at the end of the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=cwd, env=environment(**extra), stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


def is_gone(process_id: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    return _state(process_id) in {"Z", ""}


def _state(process_id: int) -> str:
    """Return what a process's main thread does, as `ps` shows it; empty where there is none."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


class Terminal:
    """The program on a terminal, with somebody who reads and types.

    Attributes:
        process: The program.
        text: All that it has written, without control sequences.
        raw: All that it has written.
    """

    def __init__(self, arguments: tuple[str, ...], cwd: Path, **extra: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *PROGRAM, *arguments],
            cwd=cwd,
            env=environment(**extra),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = ""

    @property
    def text(self) -> str:
        return _ESCAPE.sub("", self.raw)

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self._ours, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Wait until what was written matches."""
        deadline = time.monotonic() + SECONDS
        while not re.search(pattern, self.text):
            assert self._read(deadline), f"never on the terminal: {pattern}\n{self.text[-2000:]}"

    def wait_for_question(self, pattern: str) -> None:
        """Wait until what was written matches, and the program waits for what is typed.

        Python notices a signal of the instant before that only once something is typed.
        """
        self.wait_for(pattern)
        wait_until(lambda: _state(self.process.pid) == "S", "the program waits for what is typed")

    def wait(self) -> int:
        """Read on to the end, and return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self.process.wait(SECONDS)

    def close(self) -> None:
        """Kill the program, and take the terminal away."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self, deadline: float) -> bool:
        """Read what comes next; return whether anything can still come in time."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        read = b""
        with suppress(OSError):  # Linux says so when the program has closed the terminal
            read = os.read(self._ours, 65_536) if ready else b""
        self.raw += self._decoder.decode(read)
        return bool(read)


@contextmanager
def on_terminal(*arguments: str, cwd: Path, **extra: str) -> Iterator[Terminal]:
    """Start the program on a terminal; it is killed at the end of the block."""
    terminal = Terminal(arguments, cwd, **extra)
    try:
        yield terminal
    finally:
        terminal.close()
