"""`millstream flows`: what flows there are, what one of them looks like, and whether all can be drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.authoring.draw import Drawn
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition
from millstream.cli import describe, documents, graphs, pages
from millstream.cli.exits import Exit, LoadError, explain
from millstream.cli.groups import make_group
from millstream.cli.inputs import bind, missing, texts_of
from millstream.cli.load import Target, find, known_definitions, load_module, own_definitions
from millstream.cli.options import AppOption, AsJson, Debug, EnvFile, Given
from millstream.cli.pages import Check
from millstream.cli.session import Session, write
from millstream.errors import DefinitionError, GraphError, InvalidInputError

if TYPE_CHECKING:
    from millstream.settings import Settings

group = make_group("flows", "Look at flows without running them; move documents between files and the ledger.")
group.command("import")(documents.import_flows)
group.command("export")(documents.export_flows)
_Some = Annotated[
    str | None, typer.Argument(metavar="FILE[:FLOW]", help="A file or module; or a flow's name, with -A or imports.")
]
_One = Annotated[str, typer.Argument(metavar="FILE[:FLOW]", help="As for run; or a flow's name, with -A or imports.")]


@group.command("list")
def list_flows(
    context: typer.Context,
    target: _Some = None,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """List the flows of a file, a module or an app."""
    session = Session.of(context, debug=debug, env_file=env_file)
    found = _flows(target, app, session.settings(needs_workers=False))
    if as_json:
        session.write_json([describe.as_data(flow) for flow in found])
        return Exit.OK
    write(session.out, pages.flows(found))
    return Exit.OK


@group.command("show")
def show(
    context: typer.Context,
    target: _One,
    given: Given = None,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Show a flow: its inputs, its policy, and the graph that it draws."""
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings(needs_workers=False)
    definition = _meant(target, app, settings)
    texts = texts_of(given or ())
    lacking = missing(definition, definition.inputs.parse(texts))
    drawn = None if lacking else _draw(definition, texts, settings)
    if not as_json:
        write(session.out, pages.definition(definition, drawn, lacking))
        return Exit.OK
    graph = drawn and {"digest": drawn.shape.digest, "nodes": graphs.as_data(drawn.shape.graph)}
    session.write_json(describe.as_data(definition) | {"graph": graph, "missing_inputs": lacking})
    return Exit.OK


@group.command("validate")
def validate(
    context: typer.Context,
    target: _Some = None,
    given: Given = None,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Draw and check every flow, without running anything; exit 1 if one has a problem.

    FILE may also be a file of flow documents, with the ending .json or .zip.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings(needs_workers=False)
    if target is not None and documents.is_document(target):
        checks = documents.check(Path(target), app, settings)
    else:
        checks = _checks(_flows(target, app, settings), texts_of(given or ()), settings)
    if as_json:
        session.write_json(checks)
    else:
        write(session.out, pages.checks(checks))
    return Exit.FAILED if any(check.problems for check in checks) else Exit.OK


def _meant(target: str, app: str | None, settings: Settings) -> Definition:
    """Return the flow or task that is meant: by name where an app or `imports` is given, else of a file or module."""
    parsed = Target.parse(target)
    if (app or settings.imports) and parsed.name is None and not parsed.is_file:
        return known_definitions(app, settings.imports).get(target)
    return find(parsed)


def _flows(target: str | None, app: str | None, settings: Settings) -> list[Flow]:
    """Return the flows that are meant.

    Raises:
        LoadError: None are, or there is none.
    """
    if target is None and app is None and not settings.imports:
        raise LoadError("name a file or module, or an app with -A, or set MILLSTREAM_IMPORTS")
    if target is None:
        found: Iterable[Definition] = known_definitions(app, settings.imports).flows()
    elif (parsed := Target.parse(target)).name is None and (parsed.is_file or not (app or settings.imports)):
        found = own_definitions(load_module(parsed)).values()
    else:
        found = [_meant(target, app, settings)]
    if flows := [known for known in found if isinstance(known, Flow)]:
        return flows
    raise LoadError(f"{target or app or ', '.join(settings.imports)} defines no flow")


def _draw(definition: Definition, texts: Mapping[str, str], settings: Settings) -> Drawn:
    inputs = bind(definition, texts)
    if not isinstance(definition, Flow):
        return definition.draw(inputs)
    return asyncio.run(definition.draw_in_time(inputs, settings.draw_timeout, settings.max_graph_nodes))


def _checks(flows: list[Flow], texts: Mapping[str, str], settings: Settings) -> list[Check]:
    known = {name for flow in flows for name in flow.inputs.signature.parameters}
    if unknown := sorted(texts.keys() - known):
        raise InvalidInputError(f"no flow here has an input {', '.join(unknown)}")
    return [_check(flow, texts, settings) for flow in flows]


def _check(flow: Flow, texts: Mapping[str, str], settings: Settings) -> Check:
    fitting = {name: text for name, text in texts.items() if name in flow.inputs.signature.parameters}
    checked = Check(flow.name, describe.kind_of(flow), describe.place(flow))
    try:
        given = flow.inputs.parse(fitting)
        checked.missing_inputs = [] if flow.conducts else missing(flow, given)
        if not checked.missing_inputs and not flow.conducts:
            checked.nodes = _draw(flow, fitting, settings).shape.size
    except GraphError as error:
        checked.problems = [f"{checked.place or flow.name}: {problem}" for problem in error.problems]
    except (DefinitionError, InvalidInputError) as error:
        checked.problems = explain(error)[1]
    return checked
