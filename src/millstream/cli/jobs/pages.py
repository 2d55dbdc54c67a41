"""How lists of jobs, one job, and what happened in it look to people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millstream.cli.pages import table
from millstream.cli.places import place_in
from millstream.cli.values import cut, duration, first_line, readable
from millstream.desk.story import NodeStory, Story
from millstream.desk.told import json_of
from millstream.model.event import Event
from millstream.model.failure import Failure
from millstream.model.job import JobRecord, JobState

_ROWS = 200
_VALUE_LINES = 40
_VALUE_CHARACTERS = 4000
_VALUE_WIDTH = 96
_STYLES: Mapping[str, str] = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "waiting": "yellow",
    "retrying": "yellow",
    "upstream_failed": "red",
}


def jobs(found: Sequence[JobRecord], names: Mapping[str, str]) -> RenderableType:
    """Return a list of jobs, with what people call their flows."""
    listed = table("job", "flow", "state", "submitted", "took")
    for record in found:
        flow = _flow(record, names)
        listed.add_row(Text(record.id, "cyan"), flow, _state(record), when(record.created_at), _took(record))
    return listed


def dead(found: Sequence[JobRecord], names: Mapping[str, str]) -> RenderableType:
    """Return a list of failed jobs, with where and why each failed."""
    listed = table("job", "flow", "failed", "reason", "node", "error")
    for record in found:
        node = record.error.node if record.error else None
        listed.add_row(
            Text(record.id, "cyan"),
            _flow(record, names),
            when(record.ended_at),
            record.reason or "",
            Text(node or "", "cyan"),
            error_line(record.error),
        )
    return listed


def job(record: JobRecord, story: Story, names: Mapping[str, str]) -> RenderableType:
    """Return what there is to say of a job."""
    facts = Table.grid(padding=(0, 3, 0, 0))
    for name, value in _facts(record, story):
        facts.add_row(Text(name, "dim"), value)
    parts: list[RenderableType] = [Text.assemble((record.id, "bold cyan"), "  ", _flow(record, names)), "", facts]
    if story.nodes:
        parts += ["", _nodes(story)]
    return Group(*parts)


def event(happened: Event) -> Text:
    """Return an event as a line."""
    line = Text.assemble(
        (f"{happened.cursor!s:<8}", "dim"), f"{clock(happened.at)}  ", (f"{happened.type:<16}", _style_of(happened))
    )
    if happened.node is not None:
        line.append(f"  {happened.node}", "cyan")
    if (said := _said(happened.data)) is not None:
        line.append(f"  {said}", "dim")
    return line


def when(seconds: float | None) -> str:
    """Return a time as the clocks show it here."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def clock(seconds: float) -> str:
    """Return the time of day, with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03}"


def error_line(failure: Failure | None) -> Text:
    """Return an error in one line."""
    if failure is None:
        return Text()
    return Text.assemble((failure.short_type, "red"), f": {first_line(failure.message)}")


def _flow(record: JobRecord, names: Mapping[str, str]) -> Text:
    name = names.get(record.flow)
    return Text(record.flow) if name is None else Text.assemble(first_line(name), (f"  {record.flow}", "dim"))


def _facts(record: JobRecord, story: Story) -> Iterator[tuple[str, RenderableType]]:
    yield "state", _state(record)
    if story.repeats is not None:
        yield "repeats", Text(story.repeats, "cyan")
    if record.parent is not None:
        yield "submitted by", Text(record.parent, "cyan")
    yield from _times(record)
    if story.attempts:
        yield "taken up", "\n".join(_taken_up(record, story))
    for node in () if record.state.is_final else story.nodes.values():
        if node.state in ("waiting", "retrying"):
            yield "waits for", _wait(record, node)
    if story.known:
        yield "nodes", f"{story.ended:,} of {story.known:,} ended"
    if record.inputs:
        yield "inputs", _value(record.inputs)
    if record.result is not None:
        yield "result", _value(record.result)
    if record.error is not None:
        yield "error", _error(record.error)


def _times(record: JobRecord) -> Iterator[tuple[str, RenderableType]]:
    yield "submitted", when(record.created_at)
    if record.started_at is None:
        for name, at in (("starts", record.starts_at), ("expires", record.expires_at)):
            if at is not None:
                yield name, when(at)
    else:
        yield "started", when(record.started_at)
    if record.ended_at is not None:
        yield "ended", f"{when(record.ended_at)}{f' ({_took(record)})' if record.started_at else ''}"


def _state(record: JobRecord) -> Text:
    said = Text(record.state.value, _STYLES.get(record.state, ""))
    if record.reason not in (None, "error", "cancel"):
        said.append(f" ({record.reason})", "dim")
    if record.cancel_requested and not record.state.is_final:
        said.append(" (asked to stop)", "yellow")
    return said


def _taken_up(record: JobRecord, story: Story) -> Iterator[str]:
    for begun in story.attempts:
        by = f" by {begun.process}" if begun.process else ""
        holds = ", which holds it" if begun is story.attempts[-1] and record.state is JobState.RUNNING else ""
        yield f"{clock(begun.at)}{by}{holds}"


def _wait(record: JobRecord, node: NodeStory) -> Text:
    said = Text(node.path, "cyan")
    if node.state == "retrying":
        return said.append(f" until {when(node.until)}: attempt {node.attempt} failed")
    match node.reason:
        case "timer":
            return said.append(f" until {when(node.until)}")
        case "approval":
            asked = "an approval" if node.question is None else f"an approval: {_said(node.question)}"
            return said.append(f" {asked}  (millstream jobs approve {record.id} {node.path})")
        case "decision":
            return said.append(
                " a decision: it must run only once, and nobody knows whether it has"
                f"  (millstream jobs approve {record.id} {node.path} --repeat, --answer JSON or --fail)"
            )
    return said


def _nodes(story: Story) -> Table:
    listed = table("node", "state", "attempt", "at", "")
    for node in islice(story.nodes.values(), _ROWS):
        state = Text(node.state.replace("_", " "), _STYLES.get(node.state, ""))
        attempt = str(node.attempt) if node.attempt else ""
        place = place_in(node.error.traceback) if node.error else None
        said = Text.assemble(error_line(node.error), (f"  {place}" if place else "", "dim"))
        listed.add_row(Text(node.path, "cyan"), state, attempt, clock(node.at), said)
    if len(story.nodes) > _ROWS:
        listed.add_row(Text(f"… {len(story.nodes) - _ROWS:,} more; --json gives all", "dim"))
    return listed


def _error(failure: Failure) -> Text:
    place = place_in(failure.traceback)
    where = f"  {failure.node or ''}  {place or ''}".rstrip()
    return Text.assemble(error_line(failure), (where, "dim"))


def _took(record: JobRecord) -> str:
    if record.started_at is None or record.ended_at is None:
        return ""
    return duration(record.ended_at - record.started_at)


def _value(value: Any) -> str:
    shown, is_cut = cut(readable(value, _VALUE_WIDTH), lines=_VALUE_LINES, characters=_VALUE_CHARACTERS)
    return f"{shown}\n… cut here; --json gives all" if is_cut else shown


def _said(data: Any) -> str | None:
    """Return an event's data in one line."""
    if data is None:
        return None
    if isinstance(data, dict):
        told = {key: value.message if isinstance(value, Failure) else value for key, value in data.items()}
        text = "  ".join(f"{key}={_short(value)}" for key, value in told.items())
    else:
        text = _short(data)
    return text


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else (json_of(value) or repr(value))
    return cut(first_line(text), lines=1, characters=_VALUE_WIDTH)[0]


def _style_of(happened: Event) -> str:
    return _STYLES.get(happened.type.removeprefix("node_"), "")
