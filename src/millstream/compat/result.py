"""Results, as `celery.result` has them; the classes are millstream's own."""

from __future__ import annotations

from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.eager_result import EagerResult
from millstream.authoring.results.group_result import GroupResult, ResultSet
from millstream.authoring.results.making import result_from_tuple
from millstream.authoring.results.rules import allow_join_result

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
