"""Says how a job ended: for people on two streams, for programs as one line of JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from millstream.cli.exits import Exit, exit_of_signal
from millstream.cli.places import place_in
from millstream.cli.session import Session, write
from millstream.cli.values import cut, duration, first_line, readable, short_name
from millstream.desk.told import json_of
from millstream.model.failure import Failure
from millstream.model.job import JobRecord, JobState, NodeResult, NodeState

_FAILED_NODES = 10
_RESULT_LINES = 200
_RESULT_CHARACTERS = 20_000
_RESULT_WIDTH = 100
_MARKS = {
    JobState.SUCCEEDED: ("✓", "green", "in"),
    JobState.FAILED: ("✗", "red", "after"),
    JobState.CANCELLED: ("■", "yellow", "after"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        record: What the ledger says of it.
        nodes: How its nodes ended.
        signum: The signal that asked it to stop, if one did.
    """

    record: JobRecord
    nodes: list[NodeResult]
    signum: int | None

    @property
    def exit(self) -> Exit:
        """The program's exit code."""
        match self.record.state:
            case JobState.SUCCEEDED:
                return Exit.OK
            case JobState.CANCELLED if self.signum is not None:
                return exit_of_signal(self.signum)
        return Exit.FAILED

    @property
    def seconds(self) -> float:
        """How long it took from its start (or, if it never started, its submission) to its end."""
        record = self.record
        return (record.ended_at or record.created_at) - (record.started_at or record.created_at)

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes ended in which state, by the state's name."""
        counted = Counter(node.state for node in self.nodes)
        return {state.label: counted[state] for state in NodeState if counted[state]}

    def failures(self) -> list[NodeResult]:
        """Return the nodes that failed by themselves, not because of one inside them."""
        return [n for n in self.nodes if n.error is not None and n.error.node in (n.path, None)]


def write_json(session: Session, outcome: Outcome) -> None:
    """Write the outcome to standard output as one line of JSON."""
    record = outcome.record
    told: dict[str, Any] = {
        "job_id": record.id,
        "flow": record.flow,
        "state": record.state,
        "reason": record.reason,
        "result": record.result,
        "error": _error(record.error),
        "seconds": round(outcome.seconds, 3),
        "nodes": outcome.counts,
    }
    encoded = json_of(told)
    if encoded is None:
        encoded = msgspec.json.encode(told | {"result": repr(record.result), "result_is_repr": True}).decode()
    session.write_utf8(encoded)


def write_text(session: Session, outcome: Outcome) -> None:
    """Write one line of outcome and the failures to standard error, and the result to standard output."""
    session.err.print(_headline(outcome), soft_wrap=True)
    failures = outcome.failures()
    if failures:
        write(session.err, _failure_table(failures))
        if len(failures) > _FAILED_NODES:
            session.err.print(f"  … and {len(failures) - _FAILED_NODES} more", style="dim")
    elif outcome.record.error is not None:
        error = outcome.record.error
        session.err.print(f"  {error.short_type}: {first_line(error.message)}", soft_wrap=True)
    if session.is_debugging:
        for text in {node.error.traceback for node in failures[:_FAILED_NODES] if node.error is not None}:
            session.err.print(text, soft_wrap=True)
    if outcome.record.state is JobState.SUCCEEDED and outcome.record.result is not None:
        _write_result(session, outcome.record.result)


def _headline(outcome: Outcome) -> Text:
    record, counts = outcome.record, outcome.counts
    mark, style, word = _MARKS[record.state]
    reason = f" ({record.reason})" if record.reason not in (None, "error", "cancel") else ""
    total = sum(counts.values())
    nodes = f"{total:,} node{'' if total == 1 else 's'}"
    if counts.keys() - {"succeeded"}:
        nodes += ": " + ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
    return Text.assemble(
        (f"{mark} ", style),
        (short_name(record.flow), "bold"),
        (f" {record.state}{reason}", style),
        (f" {word} {duration(outcome.seconds)}", ""),
        (f" · {nodes}", "dim"),
    )


def _failure_table(failures: list[NodeResult]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for node in failures[:_FAILED_NODES]:
        error = node.error
        if error is not None:
            tries = f" (attempt {node.attempt})" if node.attempt > 1 else ""
            said = Text.assemble((error.short_type, "red"), f": {first_line(error.message)}{tries}")
            table.add_row(Text(f"  {node.path}", "cyan"), said, Text(place_in(error.traceback) or "", "dim"))
    return table


def _write_result(session: Session, result: Any) -> None:
    out = session.out
    text = result if isinstance(result, str) else readable(result, min(out.width, _RESULT_WIDTH))
    if not out.is_terminal:
        out.file.write(text if text.endswith("\n") else f"{text}\n")
        out.file.flush()
        return
    shown, is_cut = cut(text, lines=_RESULT_LINES, characters=_RESULT_CHARACTERS)
    out.print(Text.from_ansi(shown) if isinstance(result, str) else JSONHighlighter()(shown), soft_wrap=True)
    if is_cut:
        session.err.print("… cut here; --json gives all", style="dim")


def _error(error: Failure | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "node": error.node, "traceback": error.traceback}
