"""The step of a worker that gives our app its place, by the worker's pool."""

from __future__ import annotations

import sys
from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool

from millstream.backends.celery.active import ActiveJournal, tell_active
from millstream.backends.celery.child import PreforkWorkplace
from millstream.backends.celery.link import Link
from millstream.backends.celery.logs import share_celerys_log
from millstream.backends.celery.messages import TASK
from millstream.backends.celery.on_loop import LoopWorkplace
from millstream.backends.celery.pool import TaskPool as AsyncPool
from millstream.backends.celery.runtime import Program, WorkerRuntime
from millstream.backends.celery.strategy import EX_CONFIG
from millstream.backends.role import Role
from millstream.errors import MillstreamError, SettingsError
from millstream.execution.journal import LogJournal
from millstream.log import get_logger

_log = get_logger("millstream.backends.celery")

_NOT_THEIRS = ("celery.", "millstream.")


class Workplace(bootsteps.Step):  # type: ignore[misc]
    """Prepares a worker's app before the pool begins: nothing of it is open when pool processes are forked."""

    def __init__(self, parent: Any, **_options: Any) -> None:
        """Find the place; the worker ends with one line where there is none.

        Args:
            parent: Celery's worker.
        """
        app, seat = parent.app, parent.app.seat
        grace = seat.settings.drain_grace
        share_celerys_log()
        try:
            seat.guard  # noqa: B018  read from the ledger now: the parent of a prefork pool opens nothing later
        except SettingsError as error:
            sys.stderr.write(f"millstream: {error}\n")
            raise SystemExit(EX_CONFIG) from error
        except MillstreamError as error:
            raise SystemExit(f"millstream: {error}") from error
        _check_queues(app)
        _tell_of_code(app)
        _limit_users_tasks_only(parent)
        queues = _queues(app, seat.settings.default_queue)
        if issubclass(parent.pool_cls, PreforkPool):
            role = Role(executes=True, slots=1, queues=queues, is_gated=True, journal=LogJournal())
            seat.place = PreforkWorkplace(lambda: _runtime(seat.program, role), grace)
        elif issubclass(parent.pool_cls, AsyncPool):
            journal = ActiveJournal()
            tell_active(journal.active)
            role = Role(executes=True, queues=queues, journal=journal)
            seat.place = LoopWorkplace(lambda: _runtime(seat.program, role), grace)
            app.tasks[TASK].run = _on_loop(seat)
        else:
            raise SystemExit(
                f"millstream: the pool {parent.pool_cls.__module__}.{parent.pool_cls.__name__} cannot execute jobs; "
                "start `millstream worker`, or `celery worker` with --pool=prefork"
            )


def users_tasks(app: Any) -> list[str]:
    """Return the names of the Celery tasks that users have registered with a Celery app.

    Args:
        app: The Celery app.
    """
    return [name for name in app.tasks if not name.startswith(_NOT_THEIRS)]


def _check_queues(app: Any) -> None:
    """Declare a worker's queues, and end it where the broker refuses one: Celery would end by a traceback.

    Where the broker is away that is left to Celery, which waits for it.
    """
    link = Link(app.seat.settings.effective_broker_url)
    refused = link.refusals(app.amqp.queues.consume_from.values())
    link.drop()
    if refused:
        raise SystemExit("\n".join(f"millstream: {why}" for why in refused))


def _tell_of_code(app: Any) -> None:
    """Say what a worker can execute, and warn where that is nothing: it would take messages in vain."""
    ours = [name for name in app.seat.program.flows() if not name.startswith(_NOT_THEIRS)]
    if ours or users_tasks(app):
        _log.info("this worker knows its code", flows_and_tasks=len(ours), celery_tasks=len(users_tasks(app)))
    else:
        _log.warning(
            "this worker knows no flow and no task, only flow documents; name their modules with the setting imports "
            "(MILLSTREAM_IMPORTS=shop), or start `millstream worker -A shop`"
        )


def _limit_users_tasks_only(worker: Any) -> None:
    """Apply the time limits that a worker was given to users' tasks one by one, and not to the pool.

    The pool's are for whatever runs in it: they would kill a process in the middle of jobs, which have time-outs of
    their own.
    """
    hard, soft = worker.time_limit, worker.soft_time_limit
    worker.time_limit = worker.soft_time_limit = None
    if hard or soft:
        _log.warning(
            "the worker's time limits are for Celery tasks; those of jobs are the policies timeout and soft_timeout",
            time_limit=hard,
            soft_time_limit=soft,
        )
    for task in worker.app.tasks.values():
        task.time_limit, task.soft_time_limit = task.time_limit or hard, task.soft_time_limit or soft
    ours = worker.app.tasks[TASK]
    ours.time_limit = ours.soft_time_limit = None
    worker.app.conf.update(task_time_limit=hard, task_soft_time_limit=soft)  # for tasks that are registered later


def _runtime(program: Program, role: Role) -> WorkerRuntime:
    def employed() -> Program:
        program.employ(role)
        return program

    return WorkerRuntime(employed)


def _queues(app: Any, default_queue: str) -> frozenset[str | None]:
    """Return the queues that a worker takes messages from, as the ledger knows them."""
    return frozenset(None if name == default_queue else name for name in app.amqp.queues.consume_from)


def _on_loop(seat: Any) -> Any:
    """Return the task's function as a coroutine function, which our async pool runs on its loop."""

    async def execute_segment(**_told: Any) -> None:
        await seat.place.serve()

    return execute_segment
