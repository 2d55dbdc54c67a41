"""`millstream flows import` and `export`: flow documents between files and the ledger; no server has to run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.cli.accounts import everybody, named, opened_ledger
from millstream.cli.exits import Exit, LoadError, WrongUseError
from millstream.cli.load import known_definitions
from millstream.cli.options import AppOption, AsJson, Debug, EnvFile
from millstream.cli.pages import Check, table
from millstream.cli.session import Session, write
from millstream.clock import SystemClock
from millstream.errors import DocumentError

if TYPE_CHECKING:
    from millstream.authoring.documents.catalogue import Catalogue
    from millstream.ledger.accounts import Accounts, User
    from millstream.ledger.flow_store import FlowStore, StoredFlow
    from millstream.server.flows.shapes import NewFlow
    from millstream.settings import Settings

_Owner = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="Whose flows; needed where there are several users.")
]
_PAGE = 1000
_SHOWN = 5


def is_document(target: str | None) -> bool:
    """Return whether the command line names a file of flow documents, and no Python."""
    return target is not None and target.endswith((".json", ".zip"))


def import_flows(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON files, or zip archives of them.")],
    user: _Owner = None,
    app: AppOption = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Keep the flow documents of files in the ledger: all of them, or none where something is wrong with one.

    A document may name the tasks that -A or the setting imports name, too.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    given = _flows_in(files)
    catalogue = _catalogue(app, session.settings(needs_workers=False))
    kept = asyncio.run(_keep(session, given, catalogue, user))
    if as_json:
        session.write_json([{"id": flow.id, "name": flow.name, "endpoint_name": flow.endpoint_name} for flow in kept])
        return Exit.OK
    listed = table("flow", "id")
    for flow in kept:
        listed.add_row(flow.name, flow.id)
    write(session.out, listed)
    return Exit.OK


def export_flows(
    context: typer.Context,
    flows: Annotated[
        list[str] | None, typer.Argument(metavar="[FLOW]...", help="Names or ids; without any, all flows of the user.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIRECTORY", help="Where the files go.")] = Path(),
    user: _Owner = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Write flow documents to files, one each, without the values of secret ports.

    Files of the same names are replaced. With --json the documents go to standard output instead.
    """
    from millstream.server.flows import exchange  # noqa: PLC0415  pydantic: --help and completion do without

    session = Session.of(context, debug=debug, env_file=env_file)
    found = asyncio.run(_find(session, flows or (), user))
    catalogue = _catalogue(None, session.settings(needs_workers=False))
    if as_json:
        session.write_json({"flows": [exchange.as_file(flow, catalogue) for flow in found]})
        return Exit.OK
    to.mkdir(parents=True, exist_ok=True)
    files = ((flow.name, exchange.laid_out(exchange.as_file(flow, catalogue))) for flow in found)
    for name, content in exchange.named_files(files):
        (to / name).write_bytes(content)
        session.out.print(to / name, soft_wrap=True)
    return Exit.OK


def check(file: Path, app: str | None, settings: Settings) -> list[Check]:
    """Check every flow document of a file, its sub-flows among them.

    Raises:
        LoadError: The file cannot be read.
        DocumentError: It holds something else than flows.
    """
    from millstream.authoring.documents.reading import read_document  # noqa: PLC0415  as above
    from millstream.server.flows.keeping import EMPTY  # noqa: PLC0415

    catalogue = _catalogue(app, settings)
    given = _flows_in([file])
    beside = {str(flow.id): flow.data for flow in given if flow.id is not None and flow.data is not None}
    done = []
    for flow in given:
        checked = Check(flow.name, "document", str(file))
        try:
            document = read_document(flow.data or EMPTY, catalogue, beside.get, str(flow.id or ""))
            checked.nodes = len(document.nodes)
        except DocumentError as error:
            checked.problems = [f"{where}: {what}" for where, what in error.problems]
        done.append(checked)
    return done


def _flows_in(files: Sequence[Path]) -> list[NewFlow]:
    from millstream.authoring.documents.plain import parsed  # noqa: PLC0415  as above
    from millstream.server.flows.exchange import flows_in  # noqa: PLC0415

    try:
        return flows_in([(str(file), file.read_bytes()) for file in files], lambda text, _: parsed(text))
    except OSError as error:
        raise LoadError(f"{error.filename}: {error.strerror}") from None


def _catalogue(app: str | None, settings: Settings) -> Catalogue:
    from millstream import library  # noqa: PLC0415  as above
    from millstream.authoring.documents.catalogue import Catalogue  # noqa: PLC0415

    registry = known_definitions(app, settings.imports)
    return Catalogue.of(registry, *library.load(registry))


async def _keep(session: Session, given: Sequence[NewFlow], catalogue: Catalogue, user: str | None) -> list[StoredFlow]:
    from millstream.server.flows import keeping  # noqa: PLC0415  as above

    async with opened_ledger(session) as ledger:
        owner = await _owner(ledger.accounts, user)
        now = SystemClock().now()
        made = [keeping.made(flow.model_copy(update={"project_id": None}), owner.id, now) for flow in given]
        return await keeping.keep_all(ledger.flow_store, catalogue, made)


async def _find(session: Session, names: Sequence[str], user: str | None) -> list[StoredFlow]:
    async with opened_ledger(session) as ledger:
        owner = await _owner(ledger.accounts, user)
        store = ledger.flow_store
        if names:
            return [await _named(store, name, owner) for name in names]
        found: list[StoredFlow] = []
        last = None
        while page := await store.flows(owner.id, after=last, limit=_PAGE):
            found += [await store.get(flow.id, owner.id) for flow in page]
            last = page[-1].id
        return found


async def _named(store: FlowStore, name: str, owner: User) -> StoredFlow:
    from millstream.authoring.documents.fields import uuid_of  # noqa: PLC0415  as above
    from millstream.ledger.flow_store import FlowNotFoundError  # noqa: PLC0415

    flow_id = uuid_of(name)
    try:
        found = await store.named(name, owner.id) if flow_id is None else await store.get(flow_id, owner.id)
    except FlowNotFoundError:
        found = None
    if found is None:
        raise WrongUseError(f"{owner.name} has no flow {name!r}")
    return found


async def _owner(accounts: Accounts, name: str | None) -> User:
    """Return the user that is meant.

    Raises:
        WrongUseError: There is none, or nobody is named and there are several.
    """
    if name is not None:
        return await named(accounts, name)
    found = [user async for user in everybody(accounts)]
    if not found:
        raise WrongUseError("there is no user yet; add one with `millstream users add NAME`, or start a server once")
    if len(found) > 1:
        names = ", ".join(user.name for user in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        raise WrongUseError(f"there are several users ({names}); say whose flows are meant with --user NAME")
    return found[0]
