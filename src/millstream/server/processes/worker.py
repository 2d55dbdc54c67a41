"""`ServerWorker`: one of the processes that answer requests, as Gunicorn's master starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any, Final, NoReturn, Protocol

import uvloop
from fastapi import FastAPI
from gunicorn.workers.base import Worker

from millstream.log import get_logger
from millstream.server.launch import HttpServer
from millstream.server.processes.card import Card, Failure, State

_log = get_logger("millstream.server")

_BEAT_SECONDS: Final = 1.0
"""How often a worker shows that its event loop runs, and looks whether its master does."""

_UNHEARD: Final = ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU")
"""Signals that are the master's; a terminal sends some of them to all processes."""


class Loads(Protocol):
    """What a worker is handed by its master; see `master.Servers`."""

    def wsgi(self) -> FastAPI:
        """Return the application: the one that the master has loaded, else a new one."""

    def started(self) -> None:
        """Take note that requests are answered."""

    def explain(self, error: BaseException) -> Failure:
        """Return what is to be said of an error that keeps it from starting."""


class ServerWorker(Worker):  # type: ignore[misc]  # Gunicorn has no types
    """Answers requests on the master's socket, by the same server as one that runs alone.

    `worker_timeout` is about its event loop: a worker whose loop does not turn for so long is killed. How long a
    request or a job takes does not matter.
    """

    app: Loads

    def __init__(self, *args: Any) -> None:
        """Be made in the master, before the fork."""
        super().__init__(*args)
        self.card = Card()

    # ------------------------------------------------------------------------------------------------ in the worker
    def init_process(self) -> None:
        """Load, and answer until it is over; a failure is left on the card for the master."""
        try:
            super().init_process()
        except Exception as error:  # noqa: BLE001  whatever it is, the master tells it
            self.card.fail(self.app.explain(error))
            sys.exit(1)

    def init_signals(self) -> None:
        """Leave the master's signals to it; SIGTERM before there is anything to drain ends the process."""
        for name in ("SIGTERM", "SIGQUIT", "SIGCHLD"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        for name in _UNHEARD:
            signal.signal(getattr(signal, name), _ignore)  # no SIG_IGN: processes of the pool would inherit it
        signal.signal(signal.SIGABRT, self._give_up)

    def run(self) -> None:
        """Run the event loop."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        api: FastAPI = self.wsgi
        server = HttpServer(api, api.state.site.settings, most_requests=self.max_requests)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.stop)
        loop.add_signal_handler(signal.SIGQUIT, server.hurry)
        beating = asyncio.create_task(self._beat(server))
        try:
            await server.run_until_stopped(self._ready, listening=self.sockets[0], leaving=self._leaving)
        finally:
            beating.cancel()

    async def _beat(self, server: HttpServer) -> None:
        """Show that the loop runs, also while the worker starts and ends; stop where the master is gone."""
        while True:
            self.notify()
            if os.getppid() != self.ppid and not server.should_exit:
                _log.warning("the master of this server process is gone; it stops", pid=self.pid)
                server.stop()
            await asyncio.sleep(_BEAT_SECONDS)

    def _ready(self, _: str) -> None:
        self.app.started()
        self._tell(State.READY)
        _log.info("a server process is ready", pid=self.pid)

    def _leaving(self) -> None:
        self._tell(State.LEAVING)
        _log.info("a server process takes no more requests", pid=self.pid)

    def _tell(self, state: State) -> None:
        self.card.state = max(state, self.card.state)  # the master may have told it to leave while it started
        with suppress(ProcessLookupError):
            if os.getppid() == self.ppid:
                os.kill(self.ppid, signal.SIGCHLD)  # it then looks at once, in place of within a second

    def _give_up(self, _signum: int, frame: FrameType | None) -> NoReturn:
        """End here and now, since the event loop did not turn for `worker_timeout`; and say what it was at."""
        with suppress(RuntimeError):  # it was in the middle of writing to the log
            stack = "".join(traceback.format_stack(frame)).rstrip()
            _log.critical("the event loop of a server process hangs", pid=self.pid, stack=stack)
        os._exit(1)


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    pass
