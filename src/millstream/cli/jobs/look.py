"""`millstream jobs list` and `show`: which jobs there are, and how one of them goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from millstream.cli.exits import Exit
from millstream.cli.jobs import pages
from millstream.cli.jobs.desk import opened, whole_choice, whole_id
from millstream.cli.jobs.place import Place
from millstream.cli.jobs.which import Which
from millstream.cli.options import AsJson, Debug
from millstream.cli.session import Session, write
from millstream.cli.spread import spread
from millstream.desk import told
from millstream.desk.story import Story
from millstream.model.job import JobRecord

OneJob = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or the beginning of it.")]


@dataclass(frozen=True)
class Page:
    """Which part of a list is shown.

    Attributes:
        limit: At most this many.
        after_id: What comes behind this job; the last one of the page before.
    """

    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")] = 50
    after_id: Annotated[
        str | None, typer.Option("--after-id", metavar="JOB", help="Go on behind this job: the last one listed.")
    ] = None


@spread
def list_jobs(
    context: typer.Context,
    which: Which,
    page: Page,
    place: Place,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """List jobs, the newest first.

    --dead lists those that failed, with where and why.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)
    found, names = asyncio.run(_find(session, place, which.asked(), page))
    shown = found[: page.limit]
    if as_json:
        session.write_json([told.job(record, names) for record in shown])
        return Exit.OK
    write(session.out, pages.dead(shown, names) if which.dead else pages.jobs(shown, names))
    if len(found) > page.limit:
        session.err.print(f"… there are more: --after-id {shown[-1].id}", style="dim")
    return Exit.OK


@spread
def show(
    context: typer.Context,
    job: OneJob,
    place: Place,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """Show a job: where it stands, what it waits for, its nodes, inputs, result and error."""
    session = Session.of(context, debug=debug, env_file=place.env_file)
    record, story, names = asyncio.run(_look(session, place, job))
    if as_json:
        session.write_json(told.whole(record, story, names))
    else:
        write(session.out, pages.job(record, story, names))
    return Exit.OK


async def _find(
    session: Session, place: Place, asked: Mapping[str, Any], page: Page
) -> tuple[list[JobRecord], Mapping[str, str]]:
    """Return a page of jobs, and one more if there is one; and what people call their flows."""
    async with opened(session, place) as desk:
        last = None if page.after_id is None else await whole_id(desk, page.after_id)
        found = await desk.page(await whole_choice(desk, asked), before=last, limit=page.limit + 1)
        return found, await desk.flow_names(found)


async def _look(session: Session, place: Place, job: str) -> tuple[JobRecord, Story, Mapping[str, str]]:
    async with opened(session, place) as desk:
        record, story = await desk.look(await whole_id(desk, job))
        return record, story, await desk.flow_names([record])
