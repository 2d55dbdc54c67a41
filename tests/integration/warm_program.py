"""The program, run often: each run is a fork of one process that has imported the program and done nothing with it.

A run is as much a process of its own as one that is started: its directory, environment, standard streams, signals and
exit code are its own, and it ends as programs do. Only the imports are not made anew, which are nine tenths of what a
short run costs. What is asked of the interpreter itself (its options, `PYTHON…` variables) needs one that is started.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

_IMPORTED = ("millstream.cli.program", "millstream.app", "millstream.ledger.sql", "anyio._backends._asyncio")
_LONGEST = 1 << 20
_STREAMS = 3


class WarmProgram:
    """A process that forks runs of the program; it ends with the one that made it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end.

        Raises:
            subprocess.TimeoutExpired: It does not end within `seconds`; it is killed.
        """
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}).encode()
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, ours:
            with theirs:
                socket.send_fds(self._requests, [request], [out.fileno(), err.fileno(), theirs.fileno()])
            ours.settimeout(seconds)
            with ours.makefile("r", encoding="ascii") as answers:
                pid = int(answers.readline())
                try:
                    code = int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(arguments), seconds, _text(out), _text(err)) from None
            return subprocess.CompletedProcess(list(arguments), code, _text(out), _text(err))

    def close(self) -> None:
        """End the process that forks; runs go on to their ends."""
        self._requests.close()
        self._process.wait()


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


@cache
def warm_program() -> WarmProgram:
    """Return the one of this process; it is started on first use."""
    return WarmProgram(os.environ)


def _serve(requests: socket.socket) -> int:
    """Fork a run for each request; a run returns from here too, and ends as programs do."""
    for name in _IMPORTED:
        import_module(name)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _LONGEST, _STREAMS)
        if not request:
            return 0
        waiter = os.fork()
        if not waiter:
            requests.close()
            return _run(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(waiter, 0)


def _run(request: bytes, out: int, err: int, answers: int) -> int:
    if os.fork():
        os._exit(0)  # whoever waits for the run has no one to wait for it
    pid = os.fork()
    if pid:
        os.write(answers, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    asked = json.loads(request)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.dup2(out, 1)
    os.dup2(err, 2)
    for descriptor in (out, err, answers):
        os.close(descriptor)
    sys.argv = ["millstream", *asked["arguments"]]
    runpy.run_module("millstream", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    with closing(socket.socket(fileno=int(sys.argv[1]))) as connection:
        code = _serve(connection)
    sys.exit(code)
