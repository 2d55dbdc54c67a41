"""`EagerResult`: the result of a task that ran at once, in the thread of whoever handed it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millstream.authoring.results.async_result import AsyncResult


class EagerResult(AsyncResult):
    """What `apply` returns: the result of a task that has ended. It never waits, so a task may ask for it, too.

    Exceptions are the very ones that the task raised.

    Example:
        >>> from millstream import task
        >>> @task
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.apply((2, 3)).get()
        5
    """

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  Celery's order
        *,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: ARG002  it waits for nothing
    ) -> Any:
        """Return the result, or raise what failed the task; see `AsyncResult.get`.

        Raises:
            Exception: What failed the task.
        """
        return super().get(timeout, propagate, callback=callback, disable_sync_subtasks=False)

    wait = get
