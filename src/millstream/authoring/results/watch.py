"""What is known of one job's nodes. All results of a submission share one watch, which reads each event once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.authoring.results import states
from millstream.model.event import START, TERMINAL, Event
from millstream.model.graph import Graph
from millstream.model.job import JobRecord, NodeResult

if TYPE_CHECKING:
    from millstream.authoring.current import App


class Standing(msgspec.Struct):
    """Where a node stands, or a whole job.

    Attributes:
        state: One of Celery's states, or the task's own.
        meta: What the task said with its own state.
        retries: How often it was tried again.
        calls: Ids of the tasks that it submitted.
        ended_at: When it ended; seconds since the epoch, UTC.
    """

    state: str = states.PENDING
    meta: Any = None
    retries: int = 0
    calls: list[str] = []
    ended_at: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it stays as it is."""
        return self.state in states.READY_STATES


class Watch:
    """Follows one job. Its coroutines run on one loop of the app, so that no two change it at once.

    Args:
        app: The app.
        job_id: The job.

    Attributes:
        job_id: The job.
        job: Where it stands as a whole.
    """

    def __init__(self, app: App, job_id: str) -> None:
        """Know nothing yet."""
        self._app = app
        self._cursor = START
        self._nodes: dict[str, Standing] = {}
        self._size = 0
        self._results: dict[str, NodeResult] = {}
        self._graph: tuple[Graph, Sequence[Any]] | None = None
        self.job_id = job_id
        self.job = Standing()

    def standing(self, node: str | None) -> Standing:
        """Return where a node stands, by its path; without one, the job as a whole."""
        raise NotImplementedError

    async def refresh(self) -> None:
        """Take in what has happened by now; waits for nothing.

        Raises:
            JobNotFoundError: There is no such job (any more).
        """
        raise NotImplementedError

    async def follow(self, until: Callable[[], bool]) -> None:
        """Take in what happens until a condition holds, or the job has ended.

        Raises:
            JobNotFoundError: There is no such job (any more).
        """
        raise NotImplementedError

    async def outcomes(self, nodes: Collection[str | None]) -> list[Any]:
        """Return what nodes that have ended came to: their values, or the exceptions that `get` raises.

        It costs one read, however many they are.
        """
        raise NotImplementedError

    async def graph(self) -> tuple[Graph, Sequence[Any]]:
        """Return the job's graph, and the values of its slots."""
        raise NotImplementedError

    async def record(self) -> JobRecord:
        """Return what the ledger says of the job."""
        return await self._app.record(self.job_id)

    def _take(self, event: Event) -> None:
        raise NotImplementedError
