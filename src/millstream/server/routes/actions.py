"""One thing done to many jobs: those that are named, or all that are chosen; with an answer for each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Response
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from millstream.desk.jobs import ENDED, OPEN, UNHAPPY, Answer, JobDesk
from millstream.model.job import JobState, Reason
from millstream.server import told
from millstream.server.access.principal import Principal, needs
from millstream.server.idempotency import GivenKey, scoped
from millstream.server.pages import time_of
from millstream.server.site import Here
from millstream.server.strict import StrictBody, StrictRoute

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"], route_class=StrictRoute)

MOST: Final = 1000
"""Jobs that one request is for."""

_AMONG: Final = {"cancel": OPEN, "retry": UNHAPPY, "purge": ENDED}


class Choice(StrictBody):
    """Which jobs are meant, of those that the action is for."""

    state: list[JobState] = Field(default=[], description="Jobs in one of these states.")
    flow: str | None = Field(default=None, max_length=500, description="Jobs of this flow or task.")
    reason: Reason | None = Field(default=None, description="Jobs with this reason.")
    since: Annotated[datetime | None, BeforeValidator(time_of)] = Field(
        default=None, description="Submitted since then."
    )
    before: Annotated[datetime | None, BeforeValidator(time_of)] = Field(default=None, description="Or before.")


class Action(StrictBody):
    """What is done, and to which jobs."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"action": "retry", "filter": {"state": ["failed"], "since": "1h"}}]},
    )

    action: Literal["cancel", "retry", "purge"]
    ids: list[str] | None = Field(default=None, max_length=MOST, description="Ids of jobs.")
    filter: Choice | None = Field(default=None, description="Or a choice.")
    from_start: bool = Field(default=False, description="To `retry`: take over nothing that succeeded.")

    once: bool | None = Field(
        default=None, description="To `retry`: leave alone what was retried before; by default those of a choice."
    )

    @model_validator(mode="after")
    def _names_or_chooses(self) -> Action:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give ids or a filter, one of them")
        return self


@router.post("/actions")
async def act(here: Here, caller: Annotated[Principal, needs("jobs:write")], key: GivenKey, action: Action) -> Response:
    """Cancel, retry or forget jobs, and say of each what became of it; `more` says that others are left to choose."""
    desk = JobDesk(here.app, caller.owner)
    ids = await _chosen(desk, action) if action.ids is None else list(dict.fromkeys(action.ids))
    answers = await _done(desk, action, ids[:MOST], scoped(caller.user.id, key))
    return told.answer({"answers": [answer.as_told() for answer in answers], "more": len(ids) > MOST})


async def _chosen(desk: JobDesk, action: Action) -> list[str]:
    """Return the ids of the jobs that are chosen: a thousand at most, and one more if there are more."""
    choice, among = action.filter or Choice(), _AMONG[action.action]
    states = [state for state in choice.state or among if state in among]
    if not states:
        return []
    asked: dict[str, Any] = {
        "states": states,
        "flow": choice.flow,
        "reason": choice.reason,
        "created_after": choice.since,
        "created_before": choice.before,
    }
    return [record.id for record in await desk.page(asked, limit=MOST + 1)]


async def _done(desk: JobDesk, action: Action, ids: list[str], key: str | None) -> list[Answer]:
    match action.action:
        case "cancel":
            return await desk.cancel(ids)
        case "retry":
            once = action.filter is not None if action.once is None else action.once
            return await desk.retry(ids, from_start=action.from_start, once=once, key=key)
        case "purge":
            return await desk.purge(ids)
