"""The step of a worker that gives our app its place, by the worker's pool."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool

from millstream.backends.celery.child import PreforkWorkplace
from millstream.backends.celery.messages import TASK
from millstream.backends.celery.on_loop import LoopWorkplace
from millstream.backends.celery.pool import TaskPool as AsyncPool
from millstream.backends.celery.runtime import Program, WorkerRuntime
from millstream.backends.role import Role
from millstream.errors import MillstreamError


class Workplace(bootsteps.Step):  # type: ignore[misc]
    """Prepares a worker's app before the pool begins: nothing of it is open when pool processes are forked."""

    def __init__(self, parent: Any, **_options: Any) -> None:
        """Find the place; the worker ends with one line where there is none.

        Args:
            parent: Celery's worker.
        """
        app, seat = parent.app, parent.app.seat
        grace = seat.settings.drain_grace
        try:
            seat.guard  # noqa: B018  read from the ledger now: the parent of a prefork pool opens nothing later
        except MillstreamError as error:
            raise SystemExit(f"millstream: {error}") from error
        queues = _queues(app, seat.settings.default_queue)
        if issubclass(parent.pool_cls, PreforkPool):
            role = Role(executes=True, slots=1, queues=queues, is_gated=True)
            seat.place = PreforkWorkplace(lambda: _runtime(seat.program, role), grace)
        elif issubclass(parent.pool_cls, AsyncPool):
            role = Role(executes=True, queues=queues)
            seat.place = LoopWorkplace(lambda: _runtime(seat.program, role), grace)
            app.tasks[TASK].run = _on_loop(seat)
        else:
            raise SystemExit(
                f"millstream: the pool {parent.pool_cls.__module__}.{parent.pool_cls.__name__} cannot execute jobs; "
                "start `millstream worker`, or `celery worker` with --pool=prefork"
            )


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
