"""`EagerResult`: the result of a task that ran at once, in the thread of whoever handed it in."""

from __future__ import annotations

from millstream.authoring.results.async_result import AsyncResult


class EagerResult(AsyncResult):
    """What `apply` returns: the result of a task that has ended.

    What failed it is the very exception that it raised.

    Example:
        >>> from millstream import task
        >>> @task
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.apply((2, 3)).get()
        5
    """
