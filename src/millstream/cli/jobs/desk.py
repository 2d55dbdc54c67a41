"""What the commands about jobs speak to: the ledger that the settings name, or a server. Nothing is executed here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from millstream.cli.exits import WrongUseError
from millstream.cli.jobs.place import Place
from millstream.desk.jobs import PAGE, Answer, JobDesk
from millstream.desk.story import Story
from millstream.errors import JobNotFoundError, SettingsError, UnknownNameError
from millstream.model.event import START, Cursor, Event
from millstream.model.job import JobRecord

if TYPE_CHECKING:
    from millstream.cli.session import Session

_WHOLE = len("ffffffff-ffff-ffff-ffff-ffffffffffff")
_START = re.compile(r"[0-9a-f]{4,8}(-[0-9a-f-]*)?")


class Desk(Protocol):
    """The jobs that there are, for somebody who looks after them; see `JobDesk`."""

    async def locate(self, task_id: str) -> str | None:
        """Return the id of the job that a task id belongs to."""

    def names(self) -> Collection[str]:
        """Return the names of flows and tasks that are known beside those of jobs."""

    async def begins(self, start: str) -> list[str]:
        """Return ids of jobs that begin so, two at most."""

    async def page(self, asked: Mapping[str, Any], *, before: str | None = None, limit: int = PAGE) -> list[JobRecord]:
        """Return jobs that are asked for, the newest first."""

    async def look(self, job_id: str) -> tuple[JobRecord, Story]:
        """Return a job, and how it went so far."""

    async def flow_names(self, records: Iterable[JobRecord]) -> dict[str, str]:
        """Return what people call the stored flows of jobs, by the flow's name in the record."""

    def events(self, job_id: str, after: Cursor = START, *, follow: bool = False) -> AsyncIterator[Event]:
        """Yield the events of a job."""

    async def cancel(self, job_ids: Sequence[str]) -> list[Answer]:
        """Ask jobs to stop."""

    async def retry(self, job_ids: Sequence[str], *, from_start: bool = False, once: bool = False) -> list[Answer]:
        """Submit jobs that have ended once more."""

    async def purge(self, job_ids: Sequence[str]) -> list[Answer]:
        """Forget jobs that have ended."""

    async def approve(self, job_id: str, node: str, answer: Any) -> bool:
        """Answer what waits at a node; return whether something waited there."""


async def whole_id(desk: Desk, start: str) -> str:
    """Return a job's whole id, of which at least the first four digits are given, or the id of a task of its.

    Raises:
        JobNotFoundError: None begins so.
        WrongUseError: Several do.
    """
    located = await desk.locate(start.strip())
    if located is not None:
        return located
    start = start.strip().lower()
    if len(start) == _WHOLE:
        return start
    if not _START.fullmatch(start):
        raise JobNotFoundError(f"{start!r} is no task's id, nor the beginning of a job's: its first 4 digits or more")
    meant = await desk.begins(start)
    if not meant:
        raise JobNotFoundError(f"there is no job whose id begins with {start}")
    if len(meant) > 1:
        raise WrongUseError(f"several jobs' ids begin with {start}; write more of it")
    return meant[0]


async def whole_choice(desk: Desk, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked for (see `Which.asked`) with the whole name of the flow.

    Raises:
        UnknownNameError: No job has a flow of this name, or several such flows have jobs.
    """
    return dict(asked) | ({} if asked["flow"] is None else {"flow": await _whole_flow(desk, asked["flow"])})


async def _whole_flow(desk: Desk, name: str) -> str:
    """Return the name of the flow that is meant: the one of jobs, whose last part alone may be given."""
    if await desk.page({"flow": name}, limit=1):
        return name
    flows = {record.flow for record in await desk.page({})} | set(desk.names())
    meant = sorted(flow for flow in flows if flow.rpartition(".")[2] == name)
    if name in flows or len(meant) == 1:
        return name if name in flows else meant[0]
    hint = f"; there is {', '.join(meant)}" if meant else ""
    raise UnknownNameError(f"no job has the flow {name!r}{hint}")


async def pages(desk: Desk, asked: Mapping[str, Any]) -> AsyncIterator[list[JobRecord]]:
    """Yield all jobs that are asked for (see `Which.asked`), however many there are, the newest first."""
    last = None
    asked = await whole_choice(desk, asked)
    while page := await desk.page(asked, before=last):
        yield page
        last = page[-1].id


@asynccontextmanager
async def opened(session: Session, place: Place) -> AsyncIterator[Desk]:
    """Look after the jobs of a server, or of the ledger: that of durable ones, whatever the durability of new ones is.

    Raises:
        SettingsError: A setting is wrong.
        NoLedgerError: There is no ledger.
        LedgerUnavailableError: It cannot be reached.
        AwayError: The server cannot be.
    """
    if place.url is not None:
        async with _remote()(place.url, place.api_key) as desk:
            yield desk
        return
    from millstream.ledger.database import database, require_ledger  # noqa: PLC0415  SQLAlchemy: --help does without

    settings = session.settings(needs_workers=False).model_copy(update={"durability": "full"})
    require_ledger(database(settings.effective_database_url))
    async with session.app(settings, executes=False) as app:
        yield JobDesk(app)


def _remote() -> Callable[[str, str | None], AbstractAsyncContextManager[Desk]]:
    """Return what asks servers.

    Raises:
        SettingsError: It needs a package that is not installed.
    """
    try:
        from millstream.cli.jobs import remote  # noqa: PLC0415  httpx: only who asks a server needs it
    except ModuleNotFoundError as error:
        raise SettingsError("to ask a server needs httpx: pip install 'millstream[server]'") from error
    return remote.asked
