"""What is known of a task by its id: where it stands, what it was called with, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from millstream.authoring import current
from millstream.authoring.bound import Bound
from millstream.authoring.results import states
from millstream.authoring.results.rules import check_known
from millstream.authoring.results.watch import Standing, Watch
from millstream.errors import JobNotFoundError, UnknownNameError
from millstream.model.failure import Failure

_CELERYS = frozenset({"backend", "task_name"})


class Facts:
    """The half of `AsyncResult` that only looks; see there."""

    ignored = False
    """In Celery, whether no result is kept; here every result is."""

    def __init__(self, id: str, *, app: Any = None, parent: Any = None, **celerys: Any) -> None:  # noqa: A002  Celery's
        """Take the id; nothing is looked up yet."""
        check_known(celerys, _CELERYS, "AsyncResult()")
        self.id = _checked(id)
        self.parent = parent
        self._given: current.App | None = current.behind(app)
        self._watch: Watch | None = None
        self.node: str | None = None

    # --------------------------------------------------------------------------------------------------- looking
    @property
    def task_id(self) -> str:
        """The id, under Celery's other name for it."""
        return self.id

    @property
    def state(self) -> str | None:
        """Where it stands: PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, REJECTED, IGNORED, or its own state.

        `None` for an id that the ledger does not know (in Celery that is PENDING for ever).
        """
        standing = self._look()
        return None if standing is None else standing.state

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, or the exception that ended it; before that, what it said with its own state."""
        return self._app.block_on(self._result)

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of where the task failed, as text; `None` unless it did."""
        standing = self._look()
        failure = self._app.block_on(self._failure) if standing is not None and standing.is_bad else None
        return None if failure is None else failure.traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC."""
        standing = self._look()
        at = None if standing is None else standing.ended_at
        return None if at is None else datetime.fromtimestamp(at, UTC)

    @property
    def app(self) -> current.App:
        """The app that is asked for it."""
        return self._app

    @property
    def worker(self) -> str | None:
        """Id of the process that took up the task's job last; `None` while none has."""
        return self._watch.process if self._look() is not None and self._watch is not None else None

    @property
    def retries(self) -> int:
        """How often the task was tried again."""
        standing = self._look()
        return 0 if standing is None else standing.retries

    @property
    def root_id(self) -> str | None:
        """Id of the job; `None` for an id that is not known."""
        return self._watch.job_id if self._look() is not None and self._watch is not None else None

    @property
    def name(self) -> str | None:
        """Name of the task, or of a whole job's first one; `None` for an id that is not known."""
        return self._app.block_on(self._name) if self._look() is not None else None

    @property
    def args(self) -> tuple[Any, ...] | None:
        """What the task got by position; `None` while that is not known."""
        return self._app.block_on(self._call)[0]

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """What the task got by name; `None` while that is not known."""
        return self._app.block_on(self._call)[1]

    @property
    def children(self) -> list[Any]:
        """The results of what came of the task: of the tasks behind it in its canvas, and of those it submitted."""
        return self._app.block_on(self._children) if self._look() is not None else []

    def exists(self) -> bool:
        """Return whether the ledger knows the id."""
        return self._look() is not None

    def ready(self) -> bool:
        """Return whether the task has ended, in whatever way."""
        standing = self._look()
        return standing is not None and standing.is_ready

    def successful(self) -> bool:
        """Return whether the task succeeded."""
        standing = self._look()
        return standing is not None and standing.ended_as(states.SUCCESS)

    def failed(self) -> bool:
        """Return whether the task failed, or could not run since what came before it failed."""
        standing = self._look()
        return standing is not None and standing.ended_as(states.FAILURE)

    # ---------------------------------------------------------------------------------------------------- inside
    @property
    def _app(self) -> current.App:
        """The app; of a result that was sent here, the one in force where it is used first."""
        if self._given is None:
            self._given = current.app()
        return self._given

    async def located(self) -> Watch:
        """Return what follows the job; afterwards `node` is known.

        Raises:
            JobNotFoundError: The ledger does not know the id.
        """
        if self._watch is None:
            place = await self._app.locate(self.id)
            if place is None:
                raise JobNotFoundError(f"no task is known under the id {self.id!r}: was it submitted to this ledger?")
            self._watch, self.node = self._app.watch(place[0]), place[1]
        return self._watch

    def tell_revoked(self, *, was_running: bool) -> None:
        """Tell the task that it was cancelled from here, where its code is known."""
        try:
            work = self._app.definition(self.name or "")
        except UnknownNameError:
            return
        if isinstance(work, Bound):
            work.tell_revoked(self, was_running=was_running)

    def let_go(self) -> None:
        """Drop what is known, so that the id is looked up again when it is asked for."""
        self._watch = None

    def _look(self) -> Standing | None:
        """Return where it stands by now; `None` where the ledger does not know the id."""
        if self._watch is not None and self._watch.job.is_ready:
            return self._known(self._watch)
        return self._app.block_on(self._looked)

    async def _looked(self) -> Standing | None:
        try:
            watch = await self.located()
            known = self._known(watch)
            if known is None or not known.is_ready:
                await watch.refresh()
        except JobNotFoundError:
            return None
        return self._known(watch)

    def _known(self, watch: Watch) -> Standing | None:
        try:
            return watch.standing(self.node)
        except JobNotFoundError:
            return None

    async def _result(self) -> Any:
        standing = await self._looked()
        if standing is None:
            return None
        watch = await self.located()
        return (await watch.outcomes([self.node]))[0] if standing.is_ready else await watch.meta(self.node)

    async def _failure(self) -> Failure | None:
        return await (await self.located()).failure(self.node)

    async def _name(self) -> str | None:
        watch = await self.located()
        node = await watch.only_node(self.node)
        if node is None:
            return (await self._app.record(watch.job_id)).flow
        shape, _ = await watch.graph()
        return shape.graph.nodes[shape.index_of[node]].task if node in shape.index_of else None

    async def _call(self) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
        if await self._looked() is None:
            return None, None
        watch = await self.located()
        node = await watch.only_node(self.node)
        return (node is not None and await watch.call(node)) or (None, None)

    async def _children(self) -> list[Any]:
        from millstream.authoring.results.async_result import AsyncResult  # noqa: PLC0415  which is made of this
        from millstream.authoring.results.making import of_id  # noqa: PLC0415  groups are made of these

        watch = await self.located()
        node = await watch.only_node(self.node)
        if node is None:
            return []
        behind = [AsyncResult.of_node(self._app, watch.job_id, known) for known in await watch.after(node)]
        return behind + [await of_id(self._app, known) for known in watch.standing(node).calls]


def _checked(task_id: Any) -> str:
    """Return an id.

    Raises:
        ValueError: It is no text, or empty.
    """
    if not isinstance(task_id, str) or not task_id:
        raise ValueError(f"a result is found by the id of its task, a text, not by {task_id!r}")
    return task_id
