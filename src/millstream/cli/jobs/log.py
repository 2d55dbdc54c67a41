"""A job's story for people, a line for each thing that one may have to know."""

from __future__ import annotations

from millstream.cli.jobs.pages import when
from millstream.cli.places import place_in
from millstream.cli.session import Session
from millstream.cli.values import duration, first_line
from millstream.cli.view import LogView
from millstream.desk.told import json_of
from millstream.model.event import TERMINAL, Event
from millstream.model.failure import Failure
from millstream.model.job import Decision

_DECISION = f"{Decision.__module__}:{Decision.__qualname__}"
_DECIDED = {"repeat": "it is run again", "done": "it has run", "fail": "it counts as failed"}
_END_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


class JobLog(LogView):
    """Writes to standard output what tasks log, and what becomes of the job and its nodes beyond going well.

    Args:
        session: Where to write.
    """

    def __init__(self, session: Session) -> None:
        """Start with nothing shown."""
        super().__init__(session.out, is_debugging=session.is_debugging)

    def take(self, event: Event) -> None:
        """Write a line for an event, where there is something to say."""
        super().take(event)
        match event:
            case Event(type="started", data={"attempt": attempt}):
                self._say(event, "started" if attempt == 1 else f"taken up again, the {attempt}. time", "dim", {})
            case Event(type="node_retried", data={"attempt": attempt, "error": error, "delay": delay}):
                again = f"; again in {duration(delay)}" if delay else "; again at once"
                self._say(event, f"attempt {attempt} failed: {_line(error)}{again}", "yellow", {})
            case Event(type="node_failed", data={"error": error}) if error.node in (event.node, None):
                self._say(event, f"failed: {_line(error)}", "red", {})
            case Event(type="waiting", data={"reason": "timer", "until": until}):
                self._say(event, f"waits until {when(until)}", "dim", {})
            case Event(type="waiting", data={"reason": "decision"}):
                self._say(event, "waits for a decision: nobody knows whether it has run", "yellow", {})
            case Event(type="answered", data={"answer": {"$type": kind, "what": what} as said}) if kind == _DECISION:
                result = f", with the result {json_of(said['value'])}" if what == "done" else ""
                self._say(event, f"was decided: {_DECIDED[what]}{result}", "", {})
            case Event(type="answered", data={"answer": answer}):
                self._say(event, f"was answered: {json_of(answer) or repr(answer)}", "", {})
            case Event(type="progress", data={"done": done} as told):
                total = "" if told.get("total") is None else f"/{told['total']:g}"
                self._say(event, f"{done:g}{total} {told.get('message') or ''}".rstrip(), "dim", {})
            case Event(type=kind, data={"state": state, "reason": reason}) if kind == TERMINAL:
                why = f" ({reason})" if reason not in (None, "error", "cancel") else ""
                self._say(event, f"{state}{why}", _END_STYLES[state], {})


def _line(failure: Failure) -> str:
    place = place_in(failure.traceback)
    return f"{failure.short_type}: {first_line(failure.message)}{f'  {place}' if place else ''}"
