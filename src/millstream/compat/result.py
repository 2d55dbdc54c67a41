"""Results, as `celery.result` has them; the classes are millstream's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.eager_result import EagerResult
from millstream.authoring.results.group_result import GroupResult, ResultSet
from millstream.authoring.results.making import result_from_tuple

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "result_from_tuple",
]

ResultBase = AsyncResult | ResultSet


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Open a block for code that waits for results inside a task; there, `get` takes `disable_sync_subtasks=False`."""
    yield
