"""Celery's worker, run in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from celery import Celery, signals

POOLS: Final = {"async": "millstream.backends.celery.pool:TaskPool", "prefork": "celery.concurrency.prefork:TaskPool"}
"""The pools that execute jobs, by the names of the option `-P`."""


def run_worker(
    app: Celery,
    *,
    pool: str,
    concurrency: int | None,
    queues: Sequence[str],
    log_level: str,
    hostname: str | None,
    ready: Callable[[], None],
    stopping: Callable[[], None],
) -> int:
    """Run a worker until it is stopped, and return its exit code; it takes the signals SIGTERM, SIGINT and SIGQUIT.

    It exchanges nothing with other workers as it starts (`mingle`, `gossip`): what those could tell is in the ledger.

    Args:
        app: Its app.
        pool: `async` or `prefork`.
        concurrency: Its pool processes, or tasks at once; `None`: by the app's settings.
        queues: The queues that it serves; none: the default one.
        log_level: From which level on Celery logs: `debug`, `info`, `warning` or `error`.
        hostname: Its name; `None`: `celery@` and the machine's.
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
        hostname=hostname,
        pool=POOLS[pool],
        concurrency=concurrency,
        queues=list(queues) or None,
        loglevel=log_level.upper(),
        quiet=True,
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
