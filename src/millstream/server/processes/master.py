"""`serve`: the master of several server processes, which keeps as many of them as there are to be."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from fastapi import FastAPI
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from millstream.errors import SettingsError
from millstream.log import get_logger
from millstream.server.launch import url_of
from millstream.server.processes.card import Failure, State
from millstream.server.processes.worker import ServerWorker

_log = get_logger("millstream.server")

_PAUSE_SECONDS: Final = 2.0
"""How long no worker is started after one has ended before it was ready: what keeps it from it may last."""

_MOST_SETS: Final = 2
"""How many times over there may be workers, those that leave among them, for a reload to start as many again."""

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Program:
    """What the processes run, as the command line knows it.

    Attributes:
        load: Makes the application, in a worker. It has the settings in `state.site`.
        started: Is called in a worker when requests are answered.
        prepare: Looks whether a new worker could start, and returns what keeps it from it; for a reload.
        explain: Returns what is to be said of an error.
        may_pass: Whether what an exit code means may be over in a moment, such as a database that is away.
        say: Writes a line for whoever started the program.
    """

    load: Callable[[], FastAPI]
    started: Callable[[], None]
    prepare: Callable[[], Failure | None]
    explain: Callable[[BaseException], Failure]
    may_pass: Callable[[int], bool]
    say: Callable[[str], None]


class StartError(Exception):
    """Raised when a worker could not start, and so the server ended."""

    def __init__(self, failure: Failure) -> None:
        """Take what the worker said."""
        super().__init__("; ".join(failure.lines))
        self.failure = failure


def serve(program: Program, config: Config, listening: socket.socket, drain_grace: float) -> None:
    """Run the master until it is stopped. It returns, or raises, in the master; each worker ends with `SystemExit`.

    Args:
        program: What the workers run.
        config: Gunicorn's settings; see `options.configure`.
        listening: The socket that all of them answer on.
        drain_grace: What is said of the end: seconds in which what runs may still end.

    Raises:
        SettingsError: GUNICORN_CMD_ARGS names a file for the process id that cannot be written.
        StartError: A worker cannot start.
        RuntimeError: Something failed in the master that should not.
    """
    master = Master(Servers(program, config), listening, drain_grace)
    try:
        master.run()
    except SystemExit as broken_off:
        if os.getpid() != master.pid:
            raise
        if broken_off.code and master.failure is None:
            raise RuntimeError("the master of the server processes broke off; the log says why") from broken_off
    if master.failure is not None:
        raise StartError(master.failure)


class Servers:
    """What Gunicorn takes for the application.

    Attributes:
        cfg: Gunicorn's settings.
        program: What the processes run.
    """

    def __init__(self, program: Program, config: Config) -> None:
        """Load nothing."""
        self.program, self.cfg = program, config

    def wsgi(self) -> FastAPI:
        """Return the application; called in a worker, once."""
        return self.program.load()

    def started(self) -> None:
        """Take note, in a worker, that requests are answered."""
        self.program.started()

    def explain(self, error: BaseException) -> Failure:
        """Return what is to be said of an error."""
        return self.program.explain(error)


class Master(Arbiter):  # type: ignore[misc]  # Gunicorn has no types
    """Gunicorn's master, with a view of its own of how many workers there are.

    One that takes no more requests does not count any more, whatever it still has to finish: its successor starts at
    once. One that is too many is told to leave when all that stay are ready: after SIGHUP the new ones answer first.

    Attributes:
        failure: Why a worker could not start while none answers; the server ends with it.
    """

    WORKERS: dict[int, ServerWorker]
    app: Servers

    def __init__(self, app: Servers, listening: socket.socket, drain_grace: float) -> None:
        """Start nothing yet."""
        super().__init__(app)
        self.pid = os.getpid()
        self.failure: Failure | None = None
        self.LISTENERS = [listening]
        self.WORKERS = {}
        self._url = url_of(listening)
        self._drain_grace = drain_grace
        self._is_ready = self._is_stopping = self._is_reload_wanted = False
        self._not_before = time.monotonic()

    def start(self) -> None:
        """Take the signals; see Gunicorn."""
        try:
            super().start()
        except (RuntimeError, OSError) as error:  # its file for the process id
            raise SettingsError(f"GUNICORN_CMD_ARGS: --pid: {error}") from error

    # ------------------------------------------------------------------------------------------------ the workers
    def manage_workers(self) -> None:
        """Start workers that are missing, and let those leave that are too many; called each second, and on news."""
        staying = sorted((one for one in self.WORKERS.values() if not _leaves(one)), key=lambda one: int(one.age))
        if not self._is_ready and any(one.card.state is State.READY for one in staying):
            self._is_ready = True
            self.app.program.say(f"✓ millstream is ready at {self._url}")
        missing = self.num_workers - len(staying)
        if time.monotonic() >= self._not_before:
            self._spawn(missing)
        too_many, others = staying[: max(0, -missing)], staying[max(0, -missing) :]
        if all(one.card.state is State.READY for one in others):
            for one in too_many:
                one.card.state = State.LEAVING
                self.kill_worker(one.pid, signal.SIGTERM)
        if self._is_reload_wanted and missing >= 0 and len(self.WORKERS) <= _MOST_SETS * self.num_workers:
            self._is_reload_wanted = False
            self._reload()

    def _spawn(self, count: int) -> None:
        try:
            for _ in range(count):
                self.spawn_worker()
        except OSError as error:  # no memory, or too many processes or files: the workers that there are go on
            _log.error("no server process can be started; it is tried again", why=str(error))
            self._not_before = time.monotonic() + _PAUSE_SECONDS

    def reap_workers(self) -> None:
        """Take note of the workers that have ended."""
        while (ended := _ended_child()) is not None:
            pid, code = ended
            worker = self.WORKERS.pop(pid, None)
            if worker is not None:  # else it is an orphan, which comes to the process with the id 1
                worker.tmp.close()
                self._note_end(worker, code)
                worker.card.close()
        if self.failure is not None and not self._is_stopping:
            self._is_stopping = True
            raise StopIteration

    def _note_end(self, worker: ServerWorker, code: int) -> None:
        failure = worker.card.failure
        if worker.card.state in {State.BOOTING, State.FAILED}:
            self._not_before = time.monotonic() + _PAUSE_SECONDS
        if failure is not None and not self._is_stopping:
            if self.app.program.may_pass(failure.code) or self._answers():
                _log.error("a server process cannot start; it is tried again", pid=worker.pid, why=failure.lines[0])
            else:
                self.failure = self.failure or failure
        elif code < 0 and code != -signal.SIGTERM and not self._is_stopping:
            _log.error("a server process was killed", pid=worker.pid, signal=signal.Signals(-code).name)
        elif code > 0:
            _log.error("a server process broke off", pid=worker.pid, exit_code=code)
        else:
            _log.info("a server process has ended", pid=worker.pid)

    def _answers(self) -> bool:
        """Return whether some worker answers requests: new code that is broken must not end those that go on."""
        return any(one.card.state is State.READY for one in self.WORKERS.values())

    # ------------------------------------------------------------------------------------------------ its signals
    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Take note of a signal; the second one that says to stop ends everything at once."""
        if os.getpid() != self.pid:  # a worker that was forked just now, and has none of its own handlers yet
            if sig in {signal.SIGTERM, signal.SIGQUIT}:
                os._exit(0)
            return
        if sig in _STOPS:
            if self._is_stopping:
                self._kill(sig)
            self._is_stopping = True
        super().signal(sig, frame)

    def signal_chld(self, sig: int, frame: FrameType | None) -> None:
        """Take note that there is news of a worker."""
        if os.getpid() == self.pid:
            super().signal_chld(sig, frame)

    def handle_term(self) -> None:
        """Drain all workers, and end."""
        self.app.program.say(f"stopping: what does not end within {self._drain_grace:g} s is handed on")
        raise StopIteration

    def handle_int(self) -> None:
        """As SIGTERM: Ctrl-C drains here."""
        self.handle_term()

    def handle_hup(self) -> None:
        """Have new workers take over: at once, or when the last reload is over. More of these meanwhile are one."""
        self._is_reload_wanted = True

    def _reload(self) -> None:
        """Start new workers, and let the others leave when those are ready; do nothing where none could start."""
        failure = self.app.program.prepare()
        if failure is not None:
            _log.error("not reloaded: new server processes could not start", why="; ".join(failure.lines))
            return
        self.app.program.say("reloading: new server processes take over")
        self._spawn(self.num_workers)

    def handle_usr2(self) -> None:
        """Do nothing: a second master could not listen on the same socket."""
        _log.warning("SIGUSR2 has no effect here; SIGHUP starts new server processes")

    def _kill(self, signum: int) -> NoReturn:
        for pid in list(self.WORKERS):
            self.kill_worker(pid, signal.SIGKILL)
        sys.stderr.flush()
        os._exit(128 + signum)


def _leaves(worker: ServerWorker) -> bool:
    return worker.card.state is State.LEAVING


def _ended_child() -> tuple[int, int] | None:
    """Return the id of a child that has ended, and its exit code or, below 0, the signal; `None` where none has."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None
