"""Tasks by the way that Celery's users know: start one, and ask how it stands."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from millstream.authoring.canvas.signature import Signature
from millstream.authoring.flow import Flow
from millstream.authoring.result import Job
from millstream.desk.jobs import JobDesk
from millstream.desk.tasks import STARTED, as_json, task_status
from millstream.errors import InvalidInputError, JobNotFoundError
from millstream.library.example import long_running_task
from millstream.server.access.principal import Principal, needs
from millstream.server.idempotency import GivenKey, scoped
from millstream.server.problem import Problem
from millstream.server.site import Here, Site
from millstream.server.strict import StrictBody, StrictRoute
from millstream.server.waiting import Preferred

router = APIRouter(tags=["tasks"], route_class=StrictRoute)

EXAMPLE: Final = long_running_task.name


class Call(StrictBody):
    """A task, and what it is called with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"duration": 5}, {"task": "shop.price", "args": ["apple"]}]}
    )

    task: str | None = Field(
        default=None, max_length=500, description=f"The task or flow, by its name; by default {EXAMPLE}, which waits."
    )
    args: list[Any] = Field(default=[], max_length=1000, description="Its inputs by position.")
    kwargs: dict[str, Any] = Field(default={}, description="Its inputs by name.")
    duration: float | None = Field(default=None, description="Seconds; an input by name, for tasks that wait.")

    def inputs(self) -> dict[str, Any]:
        """Return the inputs by name."""
        if self.duration is None:
            return self.kwargs
        if "duration" in self.kwargs:
            raise InvalidInputError("duration is given twice; leave it out of kwargs, or give it there alone")
        return self.kwargs | {"duration": self.duration}


@router.post("/run-task", status_code=202)
async def run_task(
    here: Here,
    caller: Annotated[Principal, needs("run:write")],
    key: GivenKey,
    preferred: Preferred,
    call: Call | None = None,
) -> Response:
    """Start a task, and return its id; with `Prefer: wait=30` its result too, where that is there in time."""
    job = await _submit(here, call or Call(), owner=caller.user.id, key=scoped(caller.user.id, key))
    headers = {"Location": f"/task-status/{job.id}", **preferred.applied}
    if await preferred.ended(here, job.id) is None:
        return _answer({"task_id": job.id, "status": STARTED}, 202, headers)
    return _answer(await _status(here, caller, job.id), 200, headers)


@router.get("/task-status/{task_id:path}")
async def show_status(here: Here, caller: Annotated[Principal, needs("run:read")], task_id: str) -> Response:
    """Return how a task stands, under Celery's names: `task_id`, `status` and `result`."""
    return _answer(await _status(here, caller, task_id), 200, {})


async def _submit(here: Site, call: Call, *, owner: str, key: str | None) -> Job:
    """Submit what is called. What it takes by name is no option of ours, whatever it is called."""
    work = here.app.definition(call.task or EXAMPLE)
    if isinstance(work, Flow):
        args, kwargs = work.inputs.split(work.inputs.bind(tuple(call.args), call.inputs()))
        return await here.app.submit(work, *args, idempotency_key=key, owner=owner, **kwargs)
    bound = Signature(work, tuple(call.args), call.inputs())
    return await here.app.submit(bound, idempotency_key=key, owner=owner)


async def _status(here: Site, caller: Principal, task_id: str) -> dict[str, Any]:
    """Return how a task stands.

    Raises:
        Problem: There is none, or it is somebody else's (404).
    """
    try:
        is_known = await JobDesk(here.app, caller.owner).locate(task_id) is not None
        told = await task_status(here.app, task_id) if is_known else None
    except JobNotFoundError:
        told = None
    if told is None:
        raise Problem(404, "no task is known under this id")
    return told


def _answer(content: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(as_json(content), status, headers, "application/json")
