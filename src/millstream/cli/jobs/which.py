"""Says which jobs a command is about: by their state, flow, reason and age."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, get_args

import typer

from millstream.cli.exits import WrongUseError
from millstream.model.job import JobState, Reason

_AGO = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True)
class Which:
    """The options that choose jobs; without any of them all are meant.

    Attributes:
        state: In one of these states.
        flow: Of this flow or task.
        reason: With this reason.
        since: Submitted at this time or later: `2h` is two hours ago, `2026-11-01` a day's beginning here.
        before: Submitted before this time.
        dead: Only those that failed.
    """

    state: Annotated[
        list[JobState] | None,
        typer.Option("--state", metavar="STATE", help=f"Jobs in this state: {', '.join(JobState)}; may be repeated."),
    ] = None
    flow: Annotated[str | None, typer.Option("--flow", metavar="NAME", help="Jobs of this flow or task.")] = None
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help=f"With this reason: {', '.join(REASONS)}.")
    ] = None
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Submitted since: 30m, 2h, 7d ago, or 2026-11-01.")
    ] = None
    before: Annotated[
        str | None, typer.Option("--before", metavar="WHEN", help="Submitted before: the same forms.")
    ] = None
    dead: Annotated[bool, typer.Option("--dead", help="Jobs that failed, with where and why.")] = False

    @property
    def chooses(self) -> bool:
        """Whether any of them was given."""
        return self != Which()

    def asked(self, among: Collection[JobState] = ()) -> dict[str, Any]:
        """Return what to ask `Millstream.jobs` for.

        Args:
            among: The states that the command is for; all without.

        Raises:
            WrongUseError: An option's value is none, or no job can be meant.
        """
        if self.dead and self.state:
            raise WrongUseError("--dead stands for --state failed; leave one of them out")
        if self.reason is not None and self.reason not in REASONS:
            raise WrongUseError(f"--reason {self.reason}: give one of {', '.join(REASONS)}")
        asked = [JobState.FAILED] if self.dead else (self.state or list(among))
        states = [state for state in asked if not among or state in among]
        if asked and not states:
            raise WrongUseError(f"this is for jobs that are {_either(among)}, not {_either(asked)}")
        now = datetime.now().astimezone()
        return {
            "states": states,
            "flow": self.flow,
            "reason": self.reason,
            "created_after": None if self.since is None else instant(self.since, now),
            "created_before": None if self.before is None else instant(self.before, now),
        }


def instant(text: str, now: datetime) -> datetime:
    """Return the time that a text means: so long ago, or a date, or a date and time.

    What has no time zone is meant as the clocks show it here.

    Raises:
        WrongUseError: It has another form.

    >>> instant("1.5h", now=datetime.fromisoformat("2026-11-01T12:00+01:00")).isoformat()
    '2026-11-01T10:30:00+01:00'
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return now - timedelta(seconds=float(ago["count"]) * _SECONDS[ago["unit"]])
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise WrongUseError(
            f"{text!r} is no time; write how long ago, as 30m, 2h or 7d, or a date, as 2026-11-01 or 2026-11-01T08:30"
        ) from None


def _either(states: Collection[JobState]) -> str:
    *most, last = (state.value for state in states)
    return f"{', '.join(most)} or {last}" if most else last
