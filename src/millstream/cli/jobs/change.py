"""`millstream jobs cancel`, `retry` and `purge`: to jobs that are named, or to all that are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from millstream.cli.exits import Exit
from millstream.cli.jobs.bulk import Answer, Change, SomeJobs, Sure, carry_out, one_by_one
from millstream.cli.jobs.desk import Desk
from millstream.cli.jobs.which import Which
from millstream.cli.options import AsJson, Debug, EnvFile
from millstream.cli.session import Session
from millstream.cli.spread import spread
from millstream.errors import AlreadyRetriedError
from millstream.model.job import JobState

_OPEN = tuple(state for state in JobState if not state.is_final)
_ENDED = tuple(state for state in JobState if state.is_final)
_UNHAPPY = (JobState.FAILED, JobState.CANCELLED)


@spread
def cancel(
    context: typer.Context,
    which: Which,
    jobs: SomeJobs = None,
    is_sure: Sure = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Ask jobs to stop, and say how each then stands; exit 1 if one had ended otherwise before.

    Without JOB those that have not ended and are chosen by --state, --flow, --reason, --since or --before.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    change = Change("cancel", "cancelled", _OPEN, one_by_one(_cancel))
    return carry_out(session, change, jobs, which, is_sure=is_sure, as_json=as_json)


@spread
def retry(
    context: typer.Context,
    which: Which,
    jobs: SomeJobs = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Take over nothing that succeeded.")] = False,
    is_sure: Sure = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Submit jobs again: a new job each, with the same inputs, that takes over what succeeded.

    Without JOB those that failed or were cancelled and are chosen by --dead, --state, --flow, --reason, --since or
    --before.
    """
    session = Session.of(context, debug=debug, env_file=env_file)

    async def again(desk: Desk, job_id: str) -> Answer:
        return await _retry(desk, job_id, from_start=from_start, once=which.chooses)

    change = Change("retry", "retried", _UNHAPPY, one_by_one(again))
    return carry_out(session, change, jobs, which, is_sure=is_sure, as_json=as_json)


@spread
def purge(
    context: typer.Context,
    which: Which,
    jobs: SomeJobs = None,
    is_sure: Sure = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Forget jobs that have ended, with their results and events, before their time.

    Without JOB those that have ended and are chosen by --state, --flow, --reason, --since or --before.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    change = Change("purge", "purged", _ENDED, _purge)
    return carry_out(session, change, jobs, which, is_sure=is_sure, as_json=as_json)


async def _cancel(desk: Desk, job_id: str) -> Answer:
    record = await desk.app.cancel(job_id)
    told = {"state": record.state, "cancel_requested": record.cancel_requested}
    if record.state is JobState.CANCELLED:
        return Answer(job_id, is_done=True, said="cancelled", told=told)
    if record.state.is_final:
        return Answer(job_id, is_done=False, said=f"had ended before: it {record.state}", told=told)
    return Answer(job_id, is_done=True, said=f"asked to stop; it is still {record.state}", told=told)


async def _retry(desk: Desk, job_id: str, *, from_start: bool, once: bool) -> Answer:
    record = await desk.app.record(job_id)
    refused = partial(Answer, job_id, is_done=False, told={"new_job_id": None})
    if not record.state.is_final:
        return refused(said=f"has not ended: it is {record.state}; cancel it first")
    if record.state is JobState.SUCCEEDED and not from_start:
        return refused(said="has succeeded, so nothing is left to do; --from-start runs it again")
    try:
        job = await desk.app.retry(job_id, from_start=from_start, once=once)
    except AlreadyRetriedError as error:
        said = f"was retried before, as {error.by}; name it to retry it once more"
        return Answer(job_id, is_done=True, said=said, told={"new_job_id": error.by})
    how = "runs again" if from_start else "goes on"
    return Answer(job_id, is_done=True, said=f"{how} as {job.id}", told={"new_job_id": job.id})


async def _purge(desk: Desk, job_ids: Sequence[str]) -> Sequence[Answer]:
    gone = set(await desk.app.purge(job_ids))
    kept = await one_by_one(_keep)(desk, [job_id for job_id in job_ids if job_id not in gone])
    return [*(Answer(job_id, is_done=True, said="purged") for job_id in job_ids if job_id in gone), *kept]


async def _keep(desk: Desk, job_id: str) -> Answer:
    state = (await desk.app.record(job_id)).state
    return Answer(job_id, is_done=False, said=f"kept: it is {state}; cancel it first")
