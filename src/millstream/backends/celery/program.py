"""Celery's worker, run in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, NoReturn

from celery import Celery, signals
from celery.apps.worker import Worker, install_worker_int_handler
from celery.platforms import EX_OK
from celery.utils.nodenames import default_nodename, host_format

from millstream.backends.celery.options import WorkerOptions

POOLS: Final = {"async": "millstream.backends.celery.pool:TaskPool", "prefork": "celery.concurrency.prefork:TaskPool"}
"""The pools that execute jobs, by the names of the option `-P`."""


class _Worker(Worker):  # type: ignore[misc]  # Celery has no types
    """A worker that SIGINT and SIGTERM end alike, as `millstream worker` without Celery: the second one kills it.

    Celery's own ends with 1 after Ctrl-C, takes no second SIGTERM, and waits at a second Ctrl-C for what runs.
    """

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        for name in ("SIGINT", "SIGTERM"):
            install_worker_int_handler(worker, sig=name, callback=_be_killed_by_the_next, exitcode=EX_OK)


def _be_killed_by_the_next(_worker: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_now)


def _end_now(signum: int, _frame: FrameType | None) -> NoReturn:
    """End this process here and now; the processes of its pool see that, hand on what they run, and end."""
    os._exit(128 + signum)


def run_worker(app: Celery, options: WorkerOptions, ready: Callable[[], None], stopping: Callable[[], None]) -> int:
    """Run a worker until it is stopped, and return its exit code; it takes the signals SIGTERM, SIGINT and SIGQUIT.

    The first SIGTERM or SIGINT lets what runs end, which gives 0; the second one ends the process with 143 or 130.

    It exchanges nothing with other workers as it starts (`mingle`, `gossip`): what those could tell is in the ledger.

    Args:
        app: Its app.
        options: See there.
        ready: Called when it takes messages.
        stopping: Called in a signal handler when it is asked to stop, and what runs may end.
    """

    def on_ready(**_: Any) -> None:
        ready()

    def on_stopping(how: str, **_: Any) -> None:
        if how != "Warm":
            return
        with suppress(RuntimeError):  # it came while the program wrote to the same stream: no nesting there
            stopping()

    signals.worker_ready.connect(on_ready)
    signals.worker_shutting_down.connect(on_stopping)
    worker = _Worker(
        app=app,
        hostname=host_format(default_nodename(options.hostname or f"celery-{os.getpid()}@%h")),
        pool=POOLS[options.pool],
        concurrency=options.concurrency,
        queues=list(options.queues) or None,
        loglevel=options.log_level.upper(),
        task_events=options.task_events or None,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
