"""Says which jobs a command is about: by their state, flow, reason and age."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, get_args

import typer

from millstream.cli.exits import WrongUseError
from millstream.clock import instant
from millstream.model.job import JobState, Reason

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
            "created_after": _instant(self.since, now),
            "created_before": _instant(self.before, now),
        }


def _instant(text: str | None, now: datetime) -> datetime | None:
    try:
        return None if text is None else instant(text, now)
    except ValueError as error:
        raise WrongUseError(str(error)) from None


def _either(states: Collection[JobState]) -> str:
    *most, last = (state.value for state in states)
    return f"{', '.join(most)} or {last}" if most else last
