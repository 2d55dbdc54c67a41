"""`millstream api-keys`: the keys by which programs act for users; no server has to run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from millstream.cli import accounts
from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.groups import make_group
from millstream.cli.jobs.pages import when
from millstream.cli.options import AsJson, Debug, EnvFile
from millstream.cli.pages import table
from millstream.cli.session import Session, write
from millstream.clock import SystemClock, new_id
from millstream.ledger.accounts import ApiKey

group = make_group("api-keys", "Look after the keys by which programs act for users.")

_Whose = tuple[ApiKey, str]
"""An API key, and the name of its user."""


@group.command("list")
def list_keys(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only the keys of this user.")] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """List API keys, those that have expired too; the keys themselves are stored nowhere."""
    session = Session.of(context, debug=debug, env_file=env_file)
    found = asyncio.run(_find(session, user))
    if as_json:
        session.write_json([_told(*one) for one in found])
    else:
        write(session.out, _page(found))
    return Exit.OK


@group.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is called.")],
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The user for whom it acts.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it is good for, such as run:write; may be repeated. Everything without."),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", min=1, max=36_500, help="Valid for so long; without, until it is removed.")
    ] = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Make an API key, and write it to standard output: this once."""
    session = Session.of(context, debug=debug, env_file=env_file)
    lasts = None if days is None else timedelta(days=days)
    key, secret = asyncio.run(_create(session, name, user, _known(scopes or ()), lasts))
    if as_json:
        session.write_json({**_told(key, user), "key": secret})
    else:
        session.out.print(secret, soft_wrap=True)
        session.err.print(f"this is {user}'s API key {name}; it is not shown again", style="dim")
    return Exit.OK


@group.command("remove")
def remove(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as it is listed.")],
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Remove an API key: within a second no server takes it any more."""
    session = Session.of(context, debug=debug, env_file=env_file)
    gone, user = asyncio.run(_remove(session, key))
    if as_json:
        session.write_json(_told(gone, user))
    else:
        session.out.print(f"removed {user}'s API key {gone.name}", soft_wrap=True)
    return Exit.OK


def _known(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes, each once.

    Raises:
        WrongUseError: There is no such scope, or the server is not installed.
    """
    try:
        from millstream.server.access.principal import SCOPES  # noqa: PLC0415  FastAPI: only who needs it pays for it
    except ImportError as missing:
        raise WrongUseError(accounts.NEEDS_SERVER) from missing
    for scope in scopes:
        if scope not in SCOPES:
            raise WrongUseError(f"there is no scope {scope!r}; there are {', '.join(SCOPES)}")
    return tuple(dict.fromkeys(scopes))


async def _find(session: Session, user: str | None) -> list[_Whose]:
    async with accounts.opened(session) as known:
        if user is not None:
            owner = await accounts.named(known, user)
            return [(key, owner.name) for key in await known.keys(owner.id)]
        return [(key, owner.name) async for owner in accounts.everybody(known) for key in await known.keys(owner.id)]


async def _create(
    session: Session, name: str, user: str, scopes: tuple[str, ...], lasts: timedelta | None
) -> tuple[ApiKey, str]:
    """Record a new API key; return it, and the key as it is shown once."""
    from millstream.server.access.tokens import digest_of, new_token, written_key  # noqa: PLC0415  as above

    now, secret = SystemClock().now(), new_token()
    async with accounts.opened(session) as known:
        owner = await accounts.named(known, user)
        key = ApiKey(
            id=new_id(),
            user=owner.id,
            name=name,
            digest=digest_of(secret),
            scopes=scopes,
            created_at=now,
            expires_at=None if lasts is None else now + lasts.total_seconds(),
        )
        await known.add_key(key)
    return key, written_key(key.id, secret)


async def _remove(session: Session, key_id: str) -> _Whose:
    async with accounts.opened(session) as known:
        async for owner in accounts.everybody(known):
            for key in await known.keys(owner.id):
                if key.id == key_id and await known.remove_key(owner.id, key_id):
                    return key, owner.name
    raise WrongUseError(f"there is no API key with the id {key_id!r}; `millstream api-keys list` shows all")


def _told(key: ApiKey, user: str) -> dict[str, Any]:
    """Return what programs are told of an API key: all but its digest."""
    told = {name: getattr(key, name) for name in key.__struct_fields__ if name != "digest"}
    return {**told, "user": user}


def _page(found: Sequence[_Whose]) -> RenderableType:
    listed = table("id", "user", "name", "good for", "made", "expires", "last used")
    for key, user in found:
        scopes = ", ".join(key.scopes) or "everything"
        times = [when(at) for at in (key.created_at, key.expires_at, key.last_used_at)]
        listed.add_row(Text(key.id, "cyan"), user, key.name, scopes, *times)
    return listed
