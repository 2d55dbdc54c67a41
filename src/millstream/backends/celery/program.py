"""Celery's worker, run in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from celery import Celery, signals
from celery.utils.nodenames import default_nodename, host_format

from millstream.backends.celery.options import WorkerOptions

POOLS: Final = {"async": "millstream.backends.celery.pool:TaskPool", "prefork": "celery.concurrency.prefork:TaskPool"}
"""The pools that execute jobs, by the names of the option `-P`."""


def run_worker(app: Celery, options: WorkerOptions, ready: Callable[[], None], stopping: Callable[[], None]) -> int:
    """Run a worker until it is stopped, and return its exit code; it takes the signals SIGTERM, SIGINT and SIGQUIT.

    It exchanges nothing with other workers as it starts (`mingle`, `gossip`): what those could tell is in the ledger.

    Args:
        app: Its app.
        options: See there.
        ready: Called when it takes messages.
        stopping: Called in a signal handler when it is asked to stop.
    """

    def on_ready(**_: Any) -> None:
        ready()

    def on_stopping(**_: Any) -> None:
        with suppress(RuntimeError):  # it came while the program wrote to the same stream: no nesting there
            stopping()

    signals.worker_ready.connect(on_ready)
    signals.worker_shutting_down.connect(on_stopping)
    worker = app.Worker(
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
