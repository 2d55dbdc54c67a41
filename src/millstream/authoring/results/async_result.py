"""`AsyncResult`: the result of one task, by its id."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import anyio

from millstream.authoring import current
from millstream.authoring.results.facts import Facts
from millstream.authoring.results.rules import CONTROL, POLLING, check_known, refuse_inside_tasks
from millstream.errors import (
    IncompleteResultsError,
    ResultTimeoutError,
    StateTransitionError,
)
from millstream.model.graph import Result
from millstream.model.job import JobState

Callback = Callable[[str, Any], object]


class AsyncResult(Facts):
    """The result of a task that was submitted, by its id. Its methods block; coroutines use `Job`.

    Args:
        id: `<job id>.<node id>`, a job's id, or the `task_id` that it was submitted under.
        app: The app, also one of `millstream.compat`; by default the one in force where it is made.
        parent: The result of what came before it, where it came from a submission.
        celerys: `backend` and `task_name`, which mean nothing here.

    Raises:
        ValueError: The id is no text, or empty.

    Example:
        >>> from millstream import AsyncResult, task
        >>> @task
        ... def add(x: int, y: int) -> int: return x + y
        >>> submitted = add.delay(2, 3)
        >>> AsyncResult(submitted.id).get(timeout=10)
        5

    Attributes:
        id: The id.
        parent: See above.
        node: Path of the node, once it is located; `None` for a whole job.
    """

    @staticmethod
    def of_node(app: current.App, job_id: str, node: str | None, parent: Any = None, task_id: str = "") -> AsyncResult:
        """Return the result of a node, or of a whole job, that is known to be there; under the id that it was given."""
        known_as = task_id or (job_id if node is None else f"{job_id}.{node}")
        result = app.result_type(known_as, app=app, parent=parent)
        result._watch, result.node = app.watch(job_id), node  # noqa: SLF001  of its own class
        return result

    # --------------------------------------------------------------------------------------------------- waiting
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  Celery's order
        *,
        callback: Callback | None = None,
        disable_sync_subtasks: bool = True,
        **polling: Any,
    ) -> Any:
        """Wait until the task has ended, and return its result; blocks.

        A task that can never run any more, since something before it failed, raises that failure at once.

        Args:
            timeout: Seconds to wait at most.
            propagate: Raise what failed the task; without, return that exception.
            callback: Called with the id and the result.
            disable_sync_subtasks: Refuse to wait inside a task, where it could wait for itself.
            polling: Celery's `interval`, `no_ack` and their like, which have no meaning here.

        Raises:
            ResultTimeoutError: The task has not ended in time.
            TaskRevokedError: It was cancelled, or expired.
            JobNotFoundError: The ledger does not know the id.
            BlockingCallError: It is called inside a task, or on the event loop that runs the app.
            Exception: What failed the task.
        """
        check_known(polling, POLLING, "get()")
        if disable_sync_subtasks:
            refuse_inside_tasks()
        is_bad, value = self._app.block_on(lambda: self._awaited(timeout))
        return _given(self.id, value, callback, raises=is_bad and propagate)

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Callback | None = None) -> Any:  # noqa: FBT001, FBT002
        """Raise what failed the task, if it has; else return `result`. Waits for nothing."""
        standing = self._look()
        return _given(self.id, self.result, callback, raises=propagate and standing is not None and standing.is_bad)

    def collect(self, *, intermediate: bool = False, timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield this result and all that came of it, each with its value, waiting for each.

        Args:
            intermediate: Go on behind results that are not there yet.
            timeout: Seconds to wait at most for each.
        """
        for _, result in self.iterdeps(intermediate=intermediate):
            yield result, result.get(timeout=timeout)

    def iterdeps(self, *, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for this result and all that came of it, the nearer first.

        Raises:
            IncompleteResultsError: One is not there yet when the next one is asked for, and `intermediate` is not set.
        """
        trail: deque[tuple[Any, Any]] = deque([(None, self)])
        while trail:
            parent, result = trail.popleft()
            yield parent, result
            if result.ready():
                trail.extend((result, child) for child in result.children)
            elif not intermediate:
                raise IncompleteResultsError(f"{result} is not there yet, so what came of it is not known")

    @property
    def graph(self) -> dict[Any, list[Any]]:
        """This result and all that came of it, each with what came of it directly."""
        found: dict[Any, list[Any]] = {}
        for parent, result in self.iterdeps(intermediate=True):
            found.setdefault(result, [])
            if parent is not None:
                found[parent].append(result)
        return found

    # ---------------------------------------------------------------------------------------------------- acting
    def revoke(self, *, terminate: bool = False, **control: Any) -> bool:  # noqa: ARG002  Celery's; see below
        """Cancel the job that the task is part of, and return whether it is really cancelled.

        What has not started never starts, and what runs is stopped, with or without `terminate`; a task of a canvas
        takes the whole canvas with it. Only a plain function in a thread cannot be stopped: its result is dropped.
        `False` says that the job had ended before, or that it still stops after two seconds. Celery's `signal` and
        `wait` have no meaning here.

        Raises:
            JobNotFoundError: The ledger does not know the id.
        """
        check_known(control, CONTROL, "revoke()")

        async def cancel() -> bool:
            record = await self._app.cancel((await self.located()).job_id)
            return record.state is JobState.CANCELLED

        was = self._look()
        is_open, is_running = was is not None and not was.is_ready, was is not None and was.is_running
        is_cancelled = self._app.block_on(cancel)
        if is_cancelled and is_open:
            self.tell_revoked(was_running=is_running)
        return is_cancelled

    def forget(self) -> None:
        """Drop the result: from the ledger too, where it stands for a whole job.

        One of several results of a canvas is let go of here alone; the ledger keeps the canvas as a whole.

        Raises:
            StateTransitionError: The job has not ended, so that the ledger cannot forget it yet.
        """
        self._app.block_on(self._forget)
        self.let_go()

    # ----------------------------------------------------------------------------------------------- as a value
    def as_tuple(self) -> tuple[Any, Any]:
        """Return a form that can be sent elsewhere, and read by `result_from_tuple`: ((id, parent), None)."""
        return (self.id, self.parent and self.parent.as_tuple()), None

    def as_list(self) -> list[str]:
        """Return the id, and those of the parents."""
        line: list[Any] = [self]
        while line[-1].parent is not None:
            line.append(line[-1].parent)
        return [str(result.id) for result in line]

    def __eq__(self, other: object) -> bool:
        return other == self.id if isinstance(other, str) else isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        """Return a form that names the task."""
        return f"<{type(self).__name__}: {self.id}>"

    def __getstate__(self) -> dict[str, Any]:
        return {"id": self.id, "parent": self.parent, "_given": None, "_watch": None, "node": None}

    # ---------------------------------------------------------------------------------------------------- inside
    async def _awaited(self, timeout: float | None) -> tuple[bool, Any]:  # noqa: ASYNC109  Celery's name for it
        """Wait for the end; return whether that is to be raised, and what it came to."""
        watch = await self.located()
        if not watch.standing(self.node).is_ready:
            await watch.refresh()  # untimed, so that what has ended is seen to have
        with anyio.move_on_after(timeout):
            await watch.follow(lambda: watch.standing(self.node).is_ready)
        standing = watch.standing(self.node)
        if not standing.is_ready:
            raise ResultTimeoutError(f"{self.id} has not ended within {timeout:g} s; it is {standing.state}")
        (value,) = await watch.outcomes([self.node])
        return standing.is_bad, value

    async def _forget(self) -> None:
        watch = await self.located()
        graph = (await watch.graph())[0].graph
        await watch.settle([self.node])
        stands_for = graph.nodes[graph.result.node].id if isinstance(graph.result, Result) else None
        if self.node in {None, stands_for} and not await self._app.purge([watch.job_id]):
            raise StateTransitionError(f"job {watch.job_id} has not ended; cancel it first, or leave it to retention")


def _given(task_id: str, value: Any, callback: Callback | None, *, raises: bool) -> Any:
    """Return what a result came to, or raise it, after a callback has had it."""
    if raises:
        raise value
    if callback is not None:
        callback(task_id, value)
    return value
