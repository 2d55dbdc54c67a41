"""How lists of flows, one flow, and checks of flows look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millstream.authoring.draw import Drawn
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition
from millstream.cli import describe, graphs
from millstream.cli.values import short_name
from millstream.model.graph import Graph

_DEEPEST = 8
_ROWS = 200


@dataclass
class Check:
    """What became of a flow when it was drawn and checked.

    Attributes:
        name: Its registered name.
        kind: See `describe.kind_of`.
        place: Where it is defined.
        nodes: Nodes of its graph; `None` where it was not drawn.
        missing_inputs: Inputs without which it cannot be drawn.
        problems: What is wrong with it.
    """

    name: str
    kind: str
    place: str | None
    nodes: int | None = None
    missing_inputs: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def table(*headers: str) -> Table:
    """Return an empty table as all commands show them: calm, without lines; the first column is never folded."""
    made = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", show_edge=False, pad_edge=False)
    for number, header in enumerate(headers):
        made.add_column(header, no_wrap=number == 0, overflow="fold")
    return made


def flows(found: Sequence[Flow]) -> RenderableType:
    """Return a list of flows."""
    listed = table("flow", "kind", "inputs", "")
    for flow in found:
        inputs = ", ".join(item.short for item in describe.inputs_of(flow))
        listed.add_row(Text(flow.name, "cyan"), describe.kind_of(flow), inputs, Text(flow.description, "dim"))
    return listed


def definition(shown: Definition, drawn: Drawn | None, lacking: Sequence[str]) -> RenderableType:
    """Return what there is to say of a flow or task, and its graph."""
    parts: list[RenderableType] = [Text(shown.name, "bold cyan")]
    if line := describe.first_line(shown):
        parts.append(Text(line))
    facts = Table.grid(padding=(0, 3, 0, 0))
    for name, value in _facts(shown):
        facts.add_row(Text(name, "dim"), value)
    parts += ["", facts, ""]
    if isinstance(shown, Flow) and shown.conducts:
        parts.append(Text("Its graph is made while it runs: the body conducts.", "dim"))
    elif lacking:
        parts.append(Text.assemble("not drawn: it needs ", (" ".join(f"-i {name}=…" for name in lacking), "yellow")))
    elif drawn is not None:
        parts.append(graph(drawn.shape.graph))
    return Group(*parts)


def graph(shown: Graph) -> RenderableType:
    """Return a graph: its nodes in order, indented by how far each is from the start."""
    listed = table("node", "runs", "after", "")
    for row in islice(graphs.rows(shown), _ROWS):
        runs = f"{row.kind} {short_name(row.task)}" if row.task else row.kind
        node = Text("  " * min(row.depth, _DEEPEST) + row.id, "cyan")
        listed.add_row(node, runs, ", ".join(row.after), Text(", ".join(row.notes), "dim"))
    if len(shown.nodes) > _ROWS:
        listed.add_row(Text(f"… {len(shown.nodes) - _ROWS} more; --json gives all", "dim"))
    return listed


def checks(done: Sequence[Check]) -> RenderableType:
    """Return what became of each flow."""
    listed = Table.grid(padding=(0, 3, 0, 0))
    for check in done:
        name = Text(check.name, "cyan")
        if check.problems:
            listed.add_row(Text("✗", "red"), name, Text("\n".join(check.problems)))
        elif check.missing_inputs:
            needs = " ".join(f"-i {name}=…" for name in check.missing_inputs)
            listed.add_row(Text("·", "yellow"), name, Text(f"not drawn: it needs {needs}", "yellow"))
        else:
            what = "conducts" if check.nodes is None else f"{check.nodes} node{'' if check.nodes == 1 else 's'}"
            listed.add_row(Text("✓", "green"), name, Text(what, "dim"))
    return listed


def _facts(shown: Definition) -> Iterator[tuple[str, RenderableType]]:
    yield "kind", describe.kind_of(shown)
    if place := describe.place(shown):
        yield "place", place
    yield "version", describe.short_version(shown)
    if changed := graphs.changes(shown.policy):
        yield "policy", ", ".join(f"{name} {value}" for name, value in changed.items())
    inputs = Table.grid(padding=(0, 2, 0, 0))
    for item in describe.inputs_of(shown):
        default = Text("required", "yellow") if item.default is None else Text(f"= {item.default}")
        inputs.add_row(Text(item.name, "bold"), Text(item.type), default)
    yield "inputs", inputs if inputs.row_count else "none"
