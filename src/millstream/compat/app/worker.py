"""The signals of a worker's life, sent in `millstream worker`, and passed on in a worker of Celery's."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from millstream.authoring.registry import Moment
from millstream.compat import signals
from millstream.compat.dispatch import Signal


@dataclass(frozen=True, slots=True)
class Worker:
    """What receivers of a worker's signals get as `sender` and `instance`.

    Attributes:
        app: The app whose tasks it runs.
        hostname: Its name.
        pid: Its process.
    """

    app: Any
    hostname: str
    pid: int


def working(app: Any, moment: Moment) -> None:
    """Send the signals of a moment in the life of the worker that this process is."""
    worker = Worker(app, f"millstream@{socket.gethostname()}", os.getpid())
    match moment:
        case Moment.STARTS:
            signals.celeryd_init.send(worker.hostname, instance=worker, conf=app.conf, options={})
            signals.worker_init.send(worker)
            signals.celeryd_after_setup.send(worker.hostname, instance=worker, conf=app.conf)
            signals.worker_process_init.send(worker)
        case Moment.READY:
            signals.worker_ready.send(worker)
        case Moment.STOPS:
            signals.worker_shutting_down.send(worker.hostname, sig="SIGTERM", how="Warm", exitcode=0)
        case Moment.ENDED:
            signals.worker_process_shutdown.send(worker, pid=worker.pid, exitcode=0)
            signals.worker_shutdown.send(worker)


_OF_WORKERS: Final = (
    "celeryd_init",
    "celeryd_after_setup",
    "worker_init",
    "worker_ready",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_shutting_down",
    "worker_shutdown",
)


def told_by_celery() -> None:
    """Pass on Celery's own signals of a worker's life, in a worker of Celery's, to receivers of those here."""
    from celery import signals as real  # noqa: PLC0415  only its workers have it

    for name in _OF_WORKERS:
        getattr(real, name).connect(partial(_pass_on, getattr(signals, name)), weak=False)


def _pass_on(to: Signal, sender: Any = None, signal: Any = None, **told: Any) -> None:  # noqa: ARG001  Celery's own
    to.send(sender, **told)
