"""`millstream worker`: a process that executes what others submit to the ledger, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.authoring.registry import Moment, Registry
from millstream.backends.celery.options import WorkerOptions
from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.interrupts import Interrupts
from millstream.cli.options import AppOption, Debug, EnvFile
from millstream.cli.servers import check_event_log
from millstream.cli.session import Session
from millstream.cli.workers import work_on_celery
from millstream.errors import SettingsError

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.settings import Settings


class Pool(StrEnum):
    """Where a worker of Celery's runs what it executes."""

    ASYNC = "async"
    PREFORK = "prefork"


class Level(StrEnum):
    """From where on is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def worker(  # noqa: PLR0913, PLR0917  these are the options of a program
    context: typer.Context,
    app: AppOption = None,
    max_segments: Annotated[
        int | None, typer.Option(min=1, help="Jobs that run at once; by default the setting max_segments.")
    ] = None,
    queues: Annotated[
        str | None, typer.Option("-Q", "--queues", help="The queues to serve, with commas; by default default_queue.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("-c", "--concurrency", min=1, help="Pool processes of prefork, or jobs at once.")
    ] = None,
    pool: Annotated[Pool | None, typer.Option("-P", "--pool", help="With Celery; by default async.")] = None,
    log_level: Annotated[
        Level | None, typer.Option("-l", "--loglevel", case_sensitive=False, help="In place of the setting log_level.")
    ] = None,
    hostname: Annotated[
        str | None, typer.Option("-n", "--hostname", help="With Celery: the worker's name; %h, %n and %d as there.")
    ] = None,
    task_events: Annotated[
        bool, typer.Option("-E", "--task-events", help="With Celery: send events, which Flower listens to.")
    ] = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> int:
    """Execute jobs that other processes submit, and go on with those of processes that died.

    It takes the flows that -A or the setting imports name. The first Ctrl-C or SIGTERM lets it end what runs for
    drain_grace seconds and hand on the rest; the second one kills it. With the setting celery_enabled it is a worker of
    Celery's, which also executes Celery tasks that register with millstream.worker.celery_app.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    session.take_in(app)
    settings = session.settings()
    _refuse_unfit(settings)
    if log_level is not None:
        settings = settings.model_copy(update={"log_level": log_level.value})
    if max_segments is None and pool is not Pool.PREFORK:
        max_segments = concurrency
    if max_segments is not None:
        settings = settings.model_copy(update={"max_segments": max_segments})
    if not settings.celery_enabled and (pool or queues or hostname or task_events):
        raise WrongUseError(
            "-P, -Q, -n and -E are for workers of Celery's; set celery_enabled and broker_url, or leave them"
        )
    program = session.app(settings)
    known = session.known(settings.imports)
    _teach(program, known, settings)

    def tell(moment: Moment) -> None:
        for source in known.sources[:1]:  # one process is one worker, whatever it runs
            source.working(moment)

    if settings.celery_enabled:
        chosen = [name.strip() for name in (queues or "").split(",") if name.strip()]
        options = WorkerOptions(pool or Pool.ASYNC, concurrency, chosen, settings.log_level, hostname, task_events)
        return work_on_celery(session, program, settings, options, tell)

    def say_stopping() -> None:
        session.err.print(f"stopping: what does not end within {settings.drain_grace:g} s is handed on", soft_wrap=True)

    with Interrupts(say_stopping, lambda: None) as interrupts:
        tell(Moment.STARTS)
        asyncio.run(_serve(session, program, settings, interrupts, tell))
        tell(Moment.ENDED)
    return Exit.OK


def _refuse_unfit(settings: Settings) -> None:
    """Refuse settings by which a worker would share nothing with anybody."""
    if settings.durability == "off":
        found = settings.sources()["durability"]
        raise SettingsError(f"durability = off ({found}): jobs then live in one process; a worker has nothing to share")
    check_event_log(settings)


def _teach(program: Millstream, known: Registry, settings: Settings) -> None:
    if not known.runnable() and not (settings.celery_enabled and _knows_celery_tasks()):
        raise WrongUseError(
            "this worker knows no flow and no task; name their module with -A or the setting imports "
            "(for flow documents of the library alone: -A millstream.library.chat)"
        )
    program.registry.adopt(known)


def _knows_celery_tasks() -> bool:
    from millstream.worker import celery_tasks  # noqa: PLC0415  only workers of Celery's need it

    return bool(celery_tasks())


def collect_seldom() -> None:
    """Let the garbage collector pass over what is imported, and run more seldom: a job leaves it nothing to find.

    It took a quarter of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


async def _serve(
    session: Session, program: Millstream, settings: Settings, interrupts: Interrupts, tell: Callable[[Moment], None]
) -> None:
    stopped = asyncio.Event()
    from millstream.backends.role import Role  # noqa: PLC0415  the engine: --help does without
    from millstream.execution.journal import LogJournal  # noqa: PLC0415  as above

    program.program.employ(Role(executes=True, journal=LogJournal()))
    async with program:
        collect_seldom()
        interrupts.stop_by(stopped.set)
        session.err.print(
            f"worker {os.getpid()} is ready: {len(program.registry.names())} flows and tasks, "
            f"{settings.max_segments} jobs at once, ledger {settings.display('effective_database_url')}",
            soft_wrap=True,
        )
        tell(Moment.READY)
        await stopped.wait()
        tell(Moment.STOPS)
        await program.aclose(settings.drain_grace)
