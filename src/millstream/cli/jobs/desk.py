"""Opens the ledger that the settings name, and finds jobs in it. Nothing is executed here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from millstream.cli.exits import WrongUseError
from millstream.cli.jobs.story import Story
from millstream.errors import JobNotFoundError, UnknownNameError
from millstream.model.event import START, Cursor, Event
from millstream.model.job import JobRecord

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.cli.session import Session

PAGE = 1000
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_START = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f-]*)?")


class Desk:
    """The ledger, for somebody who looks after jobs.

    Args:
        app: An app that executes nothing.
    """

    def __init__(self, app: Millstream) -> None:
        """Take the app."""
        self.app = app

    async def job(self, start: str) -> JobRecord:
        """Return the job with this id, or the only one whose id begins so, or that of a task with this id.

        Raises:
            JobNotFoundError: There is none.
            WrongUseError: There are several.
        """
        return await self.app.record(await self.id(start))

    async def id(self, start: str) -> str:
        """Return a job's whole id, of which at least the first four digits are given, or the id of a task of its.

        Raises:
            JobNotFoundError: None begins so.
            WrongUseError: Several do.
        """
        place = await self.app.locate(start.strip())
        if place is not None:
            return place[0]
        start = start.strip().lower()
        if len(start) == len(_LAST):
            return start
        if not _START.fullmatch(start):
            raise JobNotFoundError(
                f"{start!r} is no task's id, nor the beginning of a job's: its first 4 digits or more"
            )
        above = start + _LAST[len(start) :]
        found = await self.app.jobs(before=above, limit=2)
        meant = [record.id for record in found if record.id.startswith(start)]
        if not meant:
            raise JobNotFoundError(f"there is no job whose id begins with {start}")
        if len(meant) > 1:
            raise WrongUseError(f"several jobs' ids begin with {start}; write more of it")
        return meant[0]

    async def flow(self, name: str) -> str:
        """Return the whole name of the flow that is meant: the one of jobs, whose last part alone may be given.

        Raises:
            UnknownNameError: No job has it, or several such flows have jobs.
        """
        if await self.app.jobs(flow=name, limit=1):
            return name
        flows = {record.flow for record in await self.app.jobs(limit=PAGE)} | set(self.app.registry.names())
        meant = sorted(flow for flow in flows if flow.rpartition(".")[2] == name)
        if name in flows or len(meant) == 1:
            return name if name in flows else meant[0]
        hint = f"; there is {', '.join(meant)}" if meant else ""
        raise UnknownNameError(f"no job has the flow {name!r}{hint}")

    async def whole(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is asked for (see `Which.asked`) with the whole name of the flow."""
        return dict(asked) | ({} if asked["flow"] is None else {"flow": await self.flow(asked["flow"])})

    async def pages(self, asked: Mapping[str, Any]) -> AsyncIterator[list[JobRecord]]:
        """Yield all jobs that are asked for (see `Which.asked`), however many there are, the newest first."""
        last = None
        asked = await self.whole(asked)
        while page := await self.app.jobs(**asked, before=last, limit=PAGE):
            yield page
            last = page[-1].id

    async def events(self, job_id: str, after: Cursor = START) -> AsyncIterator[Event]:
        """Yield the durable events that there are of a job."""
        while page := await self.app.recorded(job_id, after, PAGE):
            for event in page:
                yield event
            after = page[-1].cursor

    async def story(self, job_id: str) -> Story:
        """Return how a job went so far."""
        story = Story()
        async for event in self.events(job_id):
            story.take(event)
        return story


@asynccontextmanager
async def opened(session: Session) -> AsyncIterator[Desk]:
    """Open the ledger within the block: the one of durable jobs, whatever the durability of new ones is.

    Raises:
        SettingsError: A setting is wrong.
        NoLedgerError: There is no ledger.
        LedgerUnavailableError: It cannot be reached.
    """
    from millstream.ledger.database import database, require_ledger  # noqa: PLC0415  SQLAlchemy: --help does without

    settings = session.settings(needs_workers=False).model_copy(update={"durability": "full"})
    require_ledger(database(settings.effective_database_url))
    async with session.app(settings, executes=False) as app:
        yield Desk(app)
