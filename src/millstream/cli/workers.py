"""`millstream worker` where Celery is on: Celery's worker in this process, which executes jobs beside Celery tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from millstream.authoring.registry import Moment
from millstream.backends.celery.options import WorkerOptions
from millstream.cli.session import Session

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.settings import Settings


def work_on_celery(
    session: Session,
    program: Millstream,
    settings: Settings,
    options: WorkerOptions,
    tell: Callable[[Moment], None],
) -> int:
    """Run Celery's worker for an app until it is stopped, and return the exit code.

    Args:
        session: Where lines are written.
        program: The app.
        settings: Its settings.
        options: See there.
        tell: Told of the worker's moments.

    Raises:
        SettingsError: There is no broker, or Celery is not installed.
        LedgerUnavailableError: The ledger cannot be reached.
    """
    from millstream.backends.celery.program import run_worker  # noqa: PLC0415  Celery: only this worker pays for it
    from millstream.worker import celery_tasks, default_celery_app  # noqa: PLC0415  as above

    celery_app = default_celery_app(settings, lambda: program)
    program.program.identify()  # here it is one line if the ledger cannot be reached

    broker = settings.display("broker_url" if settings.broker_url else "redis_url")
    own = celery_tasks()
    for source in program.registry.sources:
        source.stand_in(celery_app)

    def ready() -> None:
        known = f"{len(program.registry.names())} flows and tasks"
        if own:
            known += f" and {len(own)} Celery tasks"
        session.err.print(
            f"worker {os.getpid()} is ready: {known}, pool {options.pool}, broker {broker}, "
            f"ledger {settings.display('effective_database_url')}",
            soft_wrap=True,
        )
        tell(Moment.READY)

    def stopping() -> None:
        session.err.print(f"stopping: what does not end within {settings.drain_grace:g} s is handed on", soft_wrap=True)

    tell(Moment.STARTS)
    code = run_worker(celery_app, options, ready, stopping)
    tell(Moment.ENDED)
    return code
