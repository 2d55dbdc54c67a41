"""Looking at several results at once, and waiting for them: one reader for each job, however many of its nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio

from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.watch import Standing, Watch
from millstream.errors import MillstreamError

Enough = Callable[[Sequence[Standing], bool], bool]
"""Says whether to wait no longer, given what has ended since the last question, and whether anything is left."""


def all_ended(_new: Sequence[Standing], is_left: bool) -> bool:  # noqa: FBT001  see `Enough`
    """Wait for all."""
    return not is_left


def all_or_bad(new: Sequence[Standing], is_left: bool) -> bool:  # noqa: FBT001  see `Enough`
    """Wait for all, or for one that raises."""
    return not is_left or any(standing.is_bad for standing in new)


def any_ended(new: Sequence[Standing], is_left: bool) -> bool:  # noqa: FBT001  see `Enough`
    """Wait for one."""
    return bool(new) or not is_left


async def places_of(leaves: Iterable[AsyncResult]) -> dict[Watch, set[str | None]]:
    """Return the nodes of some results, by what follows their jobs.

    Raises:
        JobNotFoundError: One of them is not known.
    """
    places: dict[Watch, set[str | None]] = {}
    for leaf in leaves:
        places.setdefault(await leaf.located(), set()).add(leaf.node)
    return places


async def wait_for(leaves: Iterable[AsyncResult], timeout: float | None, enough: Enough) -> None:  # noqa: ASYNC109
    """Wait until enough of some results have ended, or the time is over; what has ended by now is seen in any case.

    Raises:
        JobNotFoundError: One of them is not known, or was forgotten meanwhile.
        MillstreamError: Their jobs cannot be followed any more.
    """
    until = math.inf if timeout is None else anyio.current_time() + timeout
    errors: list[MillstreamError] = []

    async def follow(watch: Watch, nodes: set[str | None], scope: anyio.CancelScope) -> None:
        left, seen = set(nodes), 0

        def is_over() -> bool:
            nonlocal seen
            new = set(left) if watch.job.is_ready else left.intersection(watch.ended[seen:])
            seen = len(watch.ended)
            left.difference_update(new)
            return enough([watch.standing(node) for node in new], bool(left))

        try:
            await watch.refresh()
            with anyio.CancelScope(deadline=until):
                await watch.follow(is_over)
            if enough([watch.standing(node) for node in nodes - left], True):  # noqa: FBT003  see `Enough`
                scope.cancel()  # whatever is left elsewhere
        except MillstreamError as error:
            errors.append(error)
            scope.cancel()

    places = await places_of(leaves)
    async with anyio.create_task_group() as group:
        for watch, nodes in places.items():
            group.start_soon(follow, watch, nodes, group.cancel_scope)
    if errors:
        raise errors[0]


async def outcomes_of(leaves: Iterable[AsyncResult]) -> dict[AsyncResult, tuple[Standing, Any]]:
    """Return where results stand that have ended, and what each came to; one read for each job."""
    found: dict[tuple[Watch, str | None], tuple[Standing, Any]] = {}
    listed = list(leaves)
    for watch, places in (await places_of(listed)).items():
        nodes = list(places)
        for node, value in zip(nodes, await watch.outcomes(nodes), strict=True):
            found[watch, node] = watch.standing(node), value
    return {leaf: found[await leaf.located(), leaf.node] for leaf in listed}
