"""`AsyncResult`: the result of one task, by its id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from millstream.authoring import current
from millstream.authoring.results.watch import Watch


class AsyncResult:
    """The result of a task that was submitted, by its id. Its methods block; coroutines use `Job`.

    Args:
        id: `<job id>.<node id>`, a job's id, or the `task_id` that it was submitted under.
        app: The app; by default the one in force where it is made.
        parent: The result of what came before it, where it came from a submission.

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
    """

    def __init__(self, id: str, *, app: current.App | None = None, parent: Any = None) -> None:  # noqa: A002  Celery's
        """Take the id; nothing is looked up yet."""
        self.id = id
        self.parent = parent
        self._app = app or current.app()
        self._watch: Watch | None = None
        self._node: str | None = None

    # --------------------------------------------------------------------------------------------------- looking
    @property
    def task_id(self) -> str:
        """The id, under Celery's other name for it."""
        return self.id

    @property
    def state(self) -> str | None:
        """Where the task stands: PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, REJECTED, IGNORED, or its own state.

        `None` for an id that the ledger does not know (in Celery that is PENDING for ever).
        """
        raise NotImplementedError

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, or the exception that ended it; before that, what it said with its own state."""
        raise NotImplementedError

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of where the task failed, as text; `None` unless it did."""
        raise NotImplementedError

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC."""
        raise NotImplementedError

    @property
    def retries(self) -> int:
        """How often the task was tried again."""
        raise NotImplementedError

    @property
    def root_id(self) -> str | None:
        """Id of the job; `None` for an id that is not known."""
        raise NotImplementedError

    @property
    def name(self) -> str | None:
        """Name of the task."""
        raise NotImplementedError

    @property
    def args(self) -> tuple[Any, ...] | None:
        """What the task got by position; `None` while that is not known."""
        raise NotImplementedError

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """What the task got by name; `None` while that is not known."""
        raise NotImplementedError

    @property
    def children(self) -> list[Any]:
        """The results of what came of the task: of the tasks behind it in its canvas, and of those it submitted."""
        raise NotImplementedError

    def exists(self) -> bool:
        """Return whether the ledger knows the id."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Return whether the task has ended, in whatever way."""
        raise NotImplementedError

    def successful(self) -> bool:
        """Return whether the task succeeded."""
        raise NotImplementedError

    def failed(self) -> bool:
        """Return whether the task failed, or could not run since what came before it failed."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------------- waiting
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  Celery's order
        *,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Any:
        """Wait until the task has ended, and return its result; blocks.

        A task that can never run any more, since something before it failed, raises that failure at once.

        Args:
            timeout: Seconds to wait at most.
            propagate: Raise what failed the task; without, return that exception.
            callback: Called with the id and the result.
            disable_sync_subtasks: Refuse to wait inside a task, where it could wait for itself.

        Raises:
            ResultTimeoutError: The task has not ended in time.
            TaskRevokedError: It was cancelled, or expired.
            JobNotFoundError: The ledger does not know the id.
            BlockingCallError: It is called inside a task, or on the event loop that runs the app.
            Exception: What failed the task.
        """
        raise NotImplementedError

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> Any:  # noqa: FBT001, FBT002  as `get`
        """Raise what failed the task, if it has; else return `result`. Waits for nothing."""
        raise NotImplementedError

    def collect(self, *, intermediate: bool = False, timeout: float | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield this result and all that came of it, each with its value, waiting for each.

        Args:
            intermediate: Go on behind results that are not there yet.
            timeout: Seconds to wait at most for each.
        """
        raise NotImplementedError

    def iterdeps(self, *, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for this result and all that came of it, the nearer first.

        Raises:
            IncompleteResultsError: One is not there yet, and `intermediate` is not set.
        """
        raise NotImplementedError

    @property
    def graph(self) -> dict[Any, list[Any]]:
        """This result and all that came of it, each with what came of it directly."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- acting
    def revoke(self, *, terminate: bool = False) -> bool:
        """Cancel the job that the task is part of, and return whether it is really cancelled.

        What has not started never starts, and what runs is stopped, with or without `terminate`; a task of a canvas
        takes the whole canvas with it. Only a plain function in a thread cannot be stopped: its result is dropped.
        `False` says that the job had ended before, or that it still stops after two seconds.

        Raises:
            JobNotFoundError: The ledger does not know the id.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the result: from the ledger too, where it stands for a whole job that has ended.

        One of several results of a canvas is let go of here alone; the ledger keeps the canvas as a whole.
        """
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------------- as a value
    def as_tuple(self) -> tuple[Any, Any]:
        """Return a form that can be sent elsewhere, and read by `result_from_tuple`: ((id, parent), None)."""
        raise NotImplementedError

    def as_list(self) -> list[str]:
        """Return the id, and those of the parents."""
        raise NotImplementedError
