"""Does one thing to many jobs: chooses them, asks first, goes on in parts, and tells the truth about each."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress
from rich.text import Text

from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.jobs.desk import Desk, opened, pages, whole_id
from millstream.cli.jobs.place import Place
from millstream.cli.jobs.which import Which
from millstream.cli.session import Session
from millstream.desk.jobs import Answer
from millstream.errors import JobNotFoundError
from millstream.model.job import JobState

SomeJobs = Annotated[
    list[str] | None, typer.Argument(metavar="JOB", help="Ids of jobs, or their beginnings.", show_default=False)
]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something is done to many jobs.")]

_AT_ONCE = 256  # these share the commits of the ledger
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to jobs.

    Attributes:
        name: Its name on the command line.
        done: The same as something done.
        among: The states of the jobs that it is for.
        act: Does it to some jobs at once.
    """

    name: str
    done: str
    among: Collection[JobState]
    act: Callable[[Desk, Sequence[str]], Awaitable[Sequence[Answer]]]


def carry_out(
    session: Session,
    place: Place,
    change: Change,
    jobs: Sequence[str] | None,
    which: Which,
    *,
    is_sure: bool,
    as_json: bool,
) -> Exit:
    """Do something to the jobs that are named, or to all that are chosen.

    Raises:
        WrongUseError: None are named or chosen, or nobody can be asked whether it is meant.
    """
    if bool(jobs) == which.chooses:
        raise WrongUseError(f"name the jobs to {change.name}, or choose them by --state, --flow or the like")
    answers = _Answers(session, as_json=as_json)
    job_ids = asyncio.run(
        _named(session, place, jobs, answers) if jobs else _chosen(session, place, which.asked(change.among))
    )
    if which.chooses and job_ids and not is_sure and not _is_meant(session, change, len(job_ids)):
        session.complain([f"nothing was {change.done}"])
        return Exit.FAILED
    asyncio.run(_go_through(session, place, change, job_ids, answers))
    answers.sum_up(change)
    if answers.unknown:
        return Exit.USAGE
    return Exit.FAILED if answers.refused else Exit.OK


async def _named(session: Session, place: Place, jobs: Sequence[str], answers: _Answers) -> list[str]:
    """Return the ids of the jobs that are named; of those that do not exist it is said at once."""
    found: list[str] = []
    async with opened(session, place) as desk:
        for job in jobs:
            try:
                found.append(await whole_id(desk, job))
            except JobNotFoundError as error:
                answers.take([Answer.unknown(job, error)])
    return list(dict.fromkeys(found))


async def _chosen(session: Session, place: Place, asked: Mapping[str, Any]) -> list[str]:
    async with opened(session, place) as desk:
        return [record.id async for page in pages(desk, asked) for record in page]


def _is_meant(session: Session, change: Change, count: int) -> bool:
    jobs = "1 job" if count == 1 else f"{count:,} jobs"
    if not sys.stdin.isatty() or not session.err.is_terminal:
        raise WrongUseError(f"this would {change.name} {jobs}; say --yes if that is meant")
    return typer.confirm(f"{change.name} {jobs}?", err=True)


async def _go_through(
    session: Session, place: Place, change: Change, job_ids: Sequence[str], answers: _Answers
) -> None:
    is_long = len(job_ids) > _AT_ONCE and session.err.is_terminal
    async with opened(session, place) as desk:
        with Progress(console=session.err, transient=True, disable=not is_long) as progress:
            bar = progress.add_task(change.name, total=len(job_ids))
            for first in range(0, len(job_ids), _AT_ONCE):
                answers.take(await change.act(desk, job_ids[first : first + _AT_ONCE]))
                progress.update(bar, completed=first + _AT_ONCE)


class _Answers:
    """Writes what became of each job, a line each: on a terminal of many jobs only where it was not done."""

    def __init__(self, session: Session, *, as_json: bool) -> None:
        self._session = session
        self._as_json = as_json
        self.done = 0
        self.refused = 0
        self.unknown = 0

    def take(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            self.done += answer.is_done
            self.refused += not answer.is_done
            self.unknown += not answer.is_known
            if self._as_json:
                self._session.write_utf8(msgspec.json.encode(answer.as_told()).decode())
            elif not self._session.out.is_terminal:
                self._session.out.file.write(f"{answer.job}  {answer.said}\n")  # to lay a line out takes 0.1 ms
            elif not self._is_too_many or not answer.is_done:
                line = Text.assemble((answer.job, "cyan"), f"  {answer.said}", style="" if answer.is_done else "yellow")
                self._session.out.print(line, soft_wrap=True)
        self._session.out.file.flush()

    def sum_up(self, change: Change) -> None:
        if self._is_too_many or (self.done + self.refused == 0):
            rest = f", {self.refused:,} not" if self.refused else ""
            self._session.err.print(f"{self.done:,} {change.done}{rest}", style="dim")

    @property
    def _is_too_many(self) -> bool:
        return self.done + self.refused > _LISTED and self._session.out.is_terminal
