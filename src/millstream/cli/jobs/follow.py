"""`millstream jobs events` and `logs`: what happened in a job, and what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
import typer

from millstream.cli.exits import Exit
from millstream.cli.jobs import pages
from millstream.cli.jobs.desk import opened, whole_id
from millstream.cli.jobs.log import JobLog
from millstream.cli.jobs.look import OneJob
from millstream.cli.jobs.place import Place
from millstream.cli.options import AsJson, Debug
from millstream.cli.session import Session
from millstream.cli.spread import spread
from millstream.desk import told
from millstream.model.event import START, Cursor, Event

_Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]
_After = Annotated[
    str | None, typer.Option("--after", metavar="CURSOR", help="Only what came after this cursor, such as 12-0.")
]


@spread
def events(
    context: typer.Context,
    job: OneJob,
    place: Place,
    after: _After = None,
    follow: _Follow = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> Exit:
    """Print what happened in a job, an event a line; with --json a JSON object a line."""
    session = Session.of(context, debug=debug, env_file=place.env_file)
    cursor = START if after is None else Cursor.parse(after)

    def take(event: Event) -> None:
        if as_json:
            session.write_utf8(msgspec.json.encode(told.event(event)).decode())
        else:
            session.out.print(pages.event(event), soft_wrap=True)

    asyncio.run(_read(session, place, job, cursor, take, follow=follow))
    return Exit.OK


@spread
def logs(
    context: typer.Context,
    job: OneJob,
    place: Place,
    follow: _Follow = False,
    debug: Debug = False,
) -> Exit:
    """Print a job's story for people: attempts, failures, retries, waits, and the end.

    What tasks say with ctx.log and ctx.progress is shown by the process that runs them; the ledger does not keep it.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)
    asyncio.run(_read(session, place, job, START, JobLog(session).take, follow=follow))
    return Exit.OK


async def _read(
    session: Session, place: Place, job: str, after: Cursor, take: Callable[[Event], None], *, follow: bool
) -> None:
    async with opened(session, place) as desk:
        async for event in desk.events(await whole_id(desk, job), after, follow=follow):
            take(event)
