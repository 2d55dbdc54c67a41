"""Keeps in the ledger which results belong together, and finds them again."""

from __future__ import annotations

from typing import Any

from millstream.authoring import current
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.members import kept_group
from millstream.authoring.results.group_result import GroupResult
from millstream.authoring.results.making import group_of, result_from_tuple
from millstream.errors import DefinitionError

_PREFIX = "group:"
"""Before a group's id, the task id of the job that keeps it."""


def save(app: current.App, group: GroupResult) -> None:
    """Keep a group, in place of what was kept under its id; see `GroupResult.save`."""
    if group.id is None:
        raise DefinitionError("a group without an id cannot be saved; give it one: GroupResult(id, results)")
    kept = _kept(app, group.id)
    if kept == group:
        return
    if kept is not None:
        delete(app, group)
    app.hand_in(Signature(kept_group, (group.as_tuple(),), task_id=f"{_PREFIX}{group.id}"))


def delete(app: current.App, group: GroupResult) -> None:
    """Forget what was kept of a group; see `GroupResult.delete`."""

    async def forget() -> None:
        place = await app.locate(f"{_PREFIX}{group.id}")
        if place is not None:
            await app.cancel(place[0])  # it need not have run yet
            await app.purge([place[0]])

    app.block_on(forget)


def restore(app: current.App, group_id: str) -> GroupResult | None:
    """Return a group by its id; see `GroupResult.restore`."""
    kept = _kept(app, group_id)
    return kept if kept is not None else app.block_on(lambda: group_of(app, group_id))


def _kept(app: current.App, group_id: str) -> GroupResult | None:
    async def find() -> Any:
        place = await app.locate(f"{_PREFIX}{group_id}")
        return None if place is None else (await app.graph(place[0]))[1][0]

    told = app.block_on(find)
    found = None if told is None else result_from_tuple(told, app=app)
    return found if isinstance(found, GroupResult) else None
