"""`millstream jobs cancel`, `retry` and `purge`: to jobs that are named, or to all that are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from millstream.cli.exits import Exit
from millstream.cli.jobs.bulk import Change, SomeJobs, Sure, carry_out
from millstream.cli.jobs.desk import Desk
from millstream.cli.jobs.place import Place
from millstream.cli.jobs.which import Which
from millstream.cli.options import AsJson, Debug
from millstream.cli.session import Session
from millstream.cli.spread import spread
from millstream.desk.jobs import ENDED, OPEN, UNHAPPY, Answer


@spread
def cancel(
    context: typer.Context,
    which: Which,
    place: Place,
    jobs: SomeJobs = None,
    is_sure: Sure = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """Ask jobs to stop, and say how each then stands; exit 1 if one had ended otherwise before.

    Without JOB those that have not ended and are chosen by --state, --flow, --reason, --since or --before.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)
    change = Change("cancel", "cancelled", OPEN, lambda desk, job_ids: desk.cancel(job_ids))
    return carry_out(session, place, change, jobs, which, is_sure=is_sure, as_json=as_json)


@spread
def retry(
    context: typer.Context,
    which: Which,
    place: Place,
    jobs: SomeJobs = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Take over nothing that succeeded.")] = False,
    is_sure: Sure = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """Submit jobs again: a new job each, with the same inputs, that takes over what succeeded.

    Without JOB those that failed or were cancelled and are chosen by --dead, --state, --flow, --reason, --since or
    --before.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)

    async def again(desk: Desk, job_ids: Sequence[str]) -> Sequence[Answer]:
        return await desk.retry(job_ids, from_start=from_start, once=which.chooses)

    change = Change("retry", "retried", UNHAPPY, again)
    return carry_out(session, place, change, jobs, which, is_sure=is_sure, as_json=as_json)


@spread
def purge(
    context: typer.Context,
    which: Which,
    place: Place,
    jobs: SomeJobs = None,
    is_sure: Sure = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """Forget jobs that have ended, with their results and events, before their time.

    Without JOB those that have ended and are chosen by --state, --flow, --reason, --since or --before.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)
    change = Change("purge", "purged", ENDED, lambda desk, job_ids: desk.purge(job_ids))
    return carry_out(session, place, change, jobs, which, is_sure=is_sure, as_json=as_json)
