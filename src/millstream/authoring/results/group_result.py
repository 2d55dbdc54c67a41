"""`GroupResult` and `ResultSet`: several results as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from millstream.authoring import current
from millstream.authoring.results import states
from millstream.authoring.results.async_result import AsyncResult, Callback
from millstream.authoring.results.rules import CONTROL, POLLING, check_known, refuse_inside_tasks
from millstream.authoring.results.waiting import (
    all_ended,
    all_or_bad,
    any_ended,
    outcomes_of,
    places_of,
    wait_for,
)
from millstream.authoring.results.watch import Standing
from millstream.errors import JobNotFoundError, ResultTimeoutError


class ResultSet:
    """Several results, in order, that are looked at and awaited together. Its methods block.

    All of one submission cost one read, however many they are.

    Args:
        results: The results; `GroupResult`s may be among them.
        app: The app; by default the one in force where it is made.

    Example:
        >>> from millstream import ResultSet, task
        >>> @task
        ... def square(x: int) -> int: return x * x
        >>> ResultSet([square.delay(2), square.delay(3)]).get(timeout=10)
        [4, 9]

    Attributes:
        results: The results.
    """

    def __init__(self, results: Iterable[Any], *, app: Any = None) -> None:
        """Take the results."""
        self._given: current.App | None = current.behind(app)
        self.results: list[Any] = list(results)

    def add(self, result: Any) -> None:
        """Add a result, unless it is in already."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result, given as itself or by its id.

        Raises:
            KeyError: It is not in.
        """
        if result not in self.results:
            raise KeyError(result)
        self.results.remove(result)

    def discard(self, result: Any) -> None:
        """Remove a result if it is in."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add results, each unless it is in already."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Remove all results."""
        self.results.clear()

    # --------------------------------------------------------------------------------------------------- looking
    def ready(self) -> bool:
        """Return whether all have ended, in whatever way."""
        return self._all(lambda standing: standing.is_ready)

    def successful(self) -> bool:
        """Return whether all have succeeded."""
        return self._all(lambda standing: standing.ended_as(states.SUCCESS))

    def failed(self) -> bool:
        """Return whether one has failed."""
        return not self._all(lambda standing: not standing.ended_as(states.FAILURE))

    def waiting(self) -> bool:
        """Return whether one has not ended."""
        return not self.ready()

    def completed_count(self) -> int:
        """Return how many have succeeded; a group among them counts as one, when all of it has."""
        stands = self._app.block_on(self._looked)
        return sum(all(stands[leaf].ended_as(states.SUCCESS) for leaf in _leaves([known])) for known in self.results)

    def maybe_throw(self, propagate: bool = True, callback: Callback | None = None) -> None:  # noqa: FBT001, FBT002
        """Raise the first failure, if there is one; give what has ended to the callback. Waits for nothing."""
        stands = self._app.block_on(self._looked)
        ended = [leaf for leaf in _leaves(self.results) if stands[leaf].is_ready]
        outcomes = self._app.block_on(lambda: outcomes_of(ended))
        for leaf, (standing, value) in outcomes.items():
            if standing.is_bad and propagate:
                raise value
            if callback is not None:
                callback(leaf.id, value)

    # --------------------------------------------------------------------------------------------------- waiting
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  Celery's order
        *,
        callback: Callback | None = None,
        disable_sync_subtasks: bool = True,
        **polling: Any,
    ) -> list[Any]:
        """Wait until all have ended, and return their results in order; blocks. See `AsyncResult.get`.

        A failure is raised as soon as it is known. With a `callback`, results are given to that and not returned.

        Raises:
            ResultTimeoutError: They have not all ended in time.
            Exception: What failed the first of those that failed, in order; see `AsyncResult.get`.
        """
        check_known(polling, POLLING, "get()")
        if disable_sync_subtasks:
            refuse_inside_tasks()
        outcomes = self._app.block_on(lambda: self._awaited(timeout, stops_at_bad=propagate))
        for standing, value in outcomes.values():
            if standing.is_bad and propagate:
                raise value
        values = [_value(result, outcomes) for result in self.results]
        if callback is None:
            return values
        for result, value in zip(self.results, values, strict=True):
            callback(result.id, value)
        return []

    join = join_native = get

    def iterate(self, timeout: float | None = None, propagate: bool = True) -> Iterator[Any]:  # noqa: FBT001, FBT002
        """Yield the results in the order in which they come; those of groups among them one by one.

        Raises:
            ResultTimeoutError: They have not all come in time.
            Exception: What failed one, when it is that one's turn.
        """
        for _, standing, value in self._coming(timeout):
            if standing.is_bad and propagate:
                raise value
            yield value

    def iter_native(self, timeout: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (task id, {"task_id", "status", "result", "traceback"}) in the order in which results come.

        Raises:
            ResultTimeoutError: They have not all come in time.
        """
        for leaf, standing, value in self._coming(timeout):
            told = {"task_id": leaf.id, "status": standing.state, "result": value}
            yield leaf.id, {**told, "traceback": leaf.traceback if standing.is_bad else None}

    def _coming(self, timeout: float | None) -> Iterator[tuple[AsyncResult, Standing, Any]]:
        refuse_inside_tasks()
        left = _leaves(self.results)
        until = None if timeout is None else time.monotonic() + timeout
        while left:
            rest = None if until is None else max(0.0, until - time.monotonic())
            for leaf, (standing, value) in self._app.block_on(lambda: _next(left, rest)).items():  # noqa: B023  at once
                left.remove(leaf)
                yield leaf, standing, value

    # ---------------------------------------------------------------------------------------------------- acting
    def revoke(self, *, terminate: bool = False, **control: Any) -> None:  # noqa: ARG002  Celery's; see `AsyncResult.revoke`
        """Cancel the jobs of all of them; see `AsyncResult.revoke`.

        Raises:
            JobNotFoundError: The ledger does not know one.
        """
        check_known(control, CONTROL, "revoke()")

        async def cancel() -> None:
            for watch in await places_of(_leaves(self.results)):
                await self._app.cancel(watch.job_id)

        were = self._app.block_on(self._looked)
        self._app.block_on(cancel)
        for leaf, standing in self._app.block_on(self._looked).items():
            if standing.ended_as(states.REVOKED) and not were[leaf].is_ready:
                leaf.tell_revoked(was_running=were[leaf].is_running)

    def forget(self) -> None:
        """Drop all results; the ledger forgets those of their jobs that have ended, as a whole."""

        async def forget() -> None:
            places = await places_of(leaves)
            for watch, nodes in places.items():
                await watch.settle(nodes)
            await self._app.purge([watch.job_id for watch in places])

        leaves = _leaves(self.results)
        self._app.block_on(forget)
        for leaf in leaves:
            leaf.let_go()

    # ----------------------------------------------------------------------------------------------- as a value
    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __repr__(self) -> str:
        """Return a form that names the results."""
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_given": None}

    # ---------------------------------------------------------------------------------------------------- inside
    @property
    def _app(self) -> current.App:
        """The app; of results that were sent here, the one in force where they are used first."""
        if self._given is None:
            self._given = current.app()
        return self._given

    def _all(self, holds: Callable[[Standing], bool]) -> bool:
        return all(map(holds, self._app.block_on(self._looked).values()))

    async def _looked(self) -> dict[AsyncResult, Standing]:
        """Return where all of them stand by now; those that are not known do not."""
        stands: dict[AsyncResult, Standing] = {}
        fresh: set[str] = set()
        for leaf in _leaves(self.results):
            try:
                watch = await leaf.located()
                if watch.job_id not in fresh:
                    await watch.refresh()
                    fresh.add(watch.job_id)
                stands[leaf] = watch.standing(leaf.node)
            except JobNotFoundError:
                stands[leaf] = Standing()
        return stands

    async def _awaited(
        self,
        timeout: float | None,  # noqa: ASYNC109  Celery's name for it
        *,
        stops_at_bad: bool,
    ) -> dict[AsyncResult, tuple[Standing, Any]]:
        leaves = _leaves(self.results)
        await wait_for(leaves, timeout, all_or_bad if stops_at_bad else all_ended)
        stands = {leaf: (await leaf.located()).standing(leaf.node) for leaf in leaves}
        bad = [leaf for leaf in leaves if stands[leaf].is_bad]
        if stops_at_bad and bad:
            return await outcomes_of(bad[:1])
        left = sum(not standing.is_ready for standing in stands.values())
        if left:
            raise ResultTimeoutError(f"{left} of {len(leaves)} results are not there within {timeout} s")
        return await outcomes_of(leaves)


class GroupResult(ResultSet):
    """The results of a group; what calling a `group` returns.

    Args:
        id: Its id; where it was submitted, that is the id of its job, unless it was given another.
        results: The results of its members.
        app: The app; by default the one in force where it is made.
        parent: The result of what came before the group.

    Example:
        >>> from millstream import group, task
        >>> @task
        ... def square(x: int) -> int: return x * x
        >>> squares = group(square.s(n) for n in range(4)).apply_async()
        >>> squares.get(timeout=10), squares.completed_count()
        ([0, 1, 4, 9], 4)

    Attributes:
        id: See above.
        parent: See above.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  Celery's
        results: Iterable[Any] = (),
        *,
        app: Any = None,
        parent: Any = None,
    ) -> None:
        """Take the results."""
        super().__init__(results, app=app)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The results of the members."""
        return self.results

    def as_tuple(self) -> tuple[Any, Any]:
        """Return a form that can be sent elsewhere, and read by `result_from_tuple`: ((id, parent), members)."""
        return (self.id, self.parent and self.parent.as_tuple()), [result.as_tuple() for result in self.results]

    def as_list(self) -> list[str]:
        """Return the id, and those of the parents."""
        return [str(self.id), *(self.parent.as_list() if self.parent is not None else ())]

    def save(self) -> Self:
        """Keep in the ledger which results these are, so that `restore` finds them by the id, from any process.

        It replaces what was saved under the id before. A group that is a whole job needs no saving. What was saved
        goes with the ledger's retention, as any job.

        Raises:
            DefinitionError: It has no id.
            IdempotencyConflictError: Another process saves a group of this id just now.
        """
        from millstream.authoring.results.saving import save  # noqa: PLC0415  which makes groups

        save(self._app, self)
        return self

    def delete(self) -> None:
        """Forget what `save` kept, if it did."""
        from millstream.authoring.results.saving import delete  # noqa: PLC0415  as in `save`

        delete(self._app, self)

    @classmethod
    def restore(cls, id: str, *, app: Any = None) -> GroupResult | None:  # noqa: A002  Celery's
        """Return the group of an id: of a job that is a group, or one that was saved; `None` if there is none."""
        from millstream.authoring.results.saving import restore  # noqa: PLC0415  as in `save`

        return restore(current.behind(app), id)

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and (other.id, other.results) == (self.id, self.results)

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)


def _leaves(results: Iterable[Any]) -> list[AsyncResult]:
    """Return the results of single tasks, those of groups among them one by one; each once."""
    found: dict[AsyncResult, None] = {}
    for result in results:
        found.update(dict.fromkeys(_leaves(result) if isinstance(result, ResultSet) else [result]))
    return list(found)


def _value(result: Any, outcomes: dict[AsyncResult, tuple[Standing, Any]]) -> Any:
    """Return what a member came to: a list where it is a group itself."""
    if isinstance(result, ResultSet):
        return [_value(member, outcomes) for member in result]
    return outcomes[result][1]


async def _next(
    left: list[AsyncResult],
    timeout: float | None,  # noqa: ASYNC109  Celery's name for it
) -> dict[AsyncResult, tuple[Standing, Any]]:
    """Return what has ended of some results, the first to end first; waits for one if none has.

    Raises:
        ResultTimeoutError: None has in time.
    """
    await wait_for(left, timeout, any_ended)
    ended = [leaf for leaf in left if (await leaf.located()).standing(leaf.node).is_ready]
    if not ended:
        raise ResultTimeoutError(f"{len(left)} results are still not there, and the time is over")
    outcomes = await outcomes_of(ended)
    return dict(sorted(outcomes.items(), key=lambda item: item[1][0].ended_at or 0.0))
