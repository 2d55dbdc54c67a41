"""`millstream users`: who may sign in to the server; no server has to run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
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
from millstream.ledger.accounts import User

group = make_group("users", "Look after who may sign in to the server.")
_Name = Annotated[str, typer.Argument(metavar="NAME", help="What the user signs in with.")]
_LONGEST = 1024


@group.command("list")
def list_users(context: typer.Context, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False) -> Exit:
    """List all users, in the order in which they were added."""
    session = Session.of(context, debug=debug, env_file=env_file)
    found = asyncio.run(_everybody(session))
    if as_json:
        session.write_json([_told(user) for user in found])
    else:
        write(session.out, _page(found))
    return Exit.OK


@group.command("add")
def add(
    context: typer.Context,
    name: _Name,
    is_superuser: Annotated[
        bool, typer.Option("--superuser/--no-superuser", help="Whether the user may see and do everything.")
    ] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Add a user. The password is asked for, or read from standard input."""
    session = Session.of(context, debug=debug, env_file=env_file)
    user = asyncio.run(_add(session, name, _password(), is_superuser=is_superuser))
    return _say(session, user, f"added {name}{', a superuser' if is_superuser else ''}", as_json=as_json)


@group.command("password")
def password(
    context: typer.Context, name: _Name, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False
) -> Exit:
    """Give a user a new password, and end all sessions. It is asked for, or read from standard input."""
    session = Session.of(context, debug=debug, env_file=env_file)
    user = asyncio.run(_change(session, name, _password()))
    return _say(session, user, f"{name} has a new password, and is signed out everywhere", as_json=as_json)


@group.command("remove")
def remove(
    context: typer.Context,
    name: _Name,
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")] = False,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Remove a user with all sessions, API keys, projects and flows; jobs stay."""
    session = Session.of(context, debug=debug, env_file=env_file)
    if not is_sure and not _is_meant(session, name):
        session.complain(["nobody was removed"])
        return Exit.FAILED
    user = asyncio.run(_remove(session, name))
    return _say(session, user, f"removed {name} with all sessions, API keys, projects and flows", as_json=as_json)


def _is_meant(session: Session, name: str) -> bool:
    if not sys.stdin.isatty() or not session.err.is_terminal:
        raise WrongUseError(f"this would remove {name} with all flows; say --yes if that is meant")
    return typer.confirm(f"remove {name} with all flows?", err=True)


def _password() -> str:
    """Return a password that is typed twice without being shown; off a terminal the first line of standard input.

    Raises:
        WrongUseError: There is none, or it is too long.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        given: str = typer.prompt("Password", hide_input=True, confirmation_prompt="Repeat it", err=True)
    else:
        line = "" if sys.stdin is None else sys.stdin.readline()
        if not line:
            raise WrongUseError("there is no password on standard input; write it there, or run this on a terminal")
        given = line.rstrip("\r\n")
    if not given:
        raise WrongUseError("the password is empty; give one that has characters")
    if len(given) > _LONGEST:
        raise WrongUseError(f"the password has {len(given):,} characters, and may have {_LONGEST:,}")
    return given


async def _everybody(session: Session) -> list[User]:
    async with accounts.opened(session) as known:
        return [user async for user in accounts.everybody(known)]


async def _add(session: Session, name: str, password: str, *, is_superuser: bool) -> User:
    now = SystemClock().now()
    user = User(
        id=new_id(),
        name=name,
        password=await accounts.hashed(password),
        is_superuser=is_superuser,
        created_at=now,
        updated_at=now,
    )
    async with accounts.opened(session, makes=True) as known:
        await known.add_user(user)
    return user


async def _change(session: Session, name: str, password: str) -> User:
    async with accounts.opened(session) as known:
        user = await accounts.named(known, name)
        user = await known.change_user(user.id, password=await accounts.hashed(password))
        await known.end_sessions(user.id)
    return user


async def _remove(session: Session, name: str) -> User:
    async with accounts.opened(session) as known:
        user = await accounts.named(known, name)
        await known.remove_user(user.id)
    return user


def _say(session: Session, user: User, said: str, *, as_json: bool) -> Exit:
    if as_json:
        session.write_json(_told(user))
    else:
        session.out.print(said, soft_wrap=True)
    return Exit.OK


def _told(user: User) -> dict[str, Any]:
    """Return what programs are told of a user: all but the password's hash."""
    return {name: getattr(user, name) for name in user.__struct_fields__ if name != "password"}


def _page(found: Sequence[User]) -> RenderableType:
    listed = table("user", "id", "added", "")
    for user in found:
        marks = [
            mark for mark, holds in (("superuser", user.is_superuser), ("not active", not user.is_active)) if holds
        ]
        listed.add_row(Text(user.name, "cyan"), user.id, when(user.created_at), ", ".join(marks))
    return listed
