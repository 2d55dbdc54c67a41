"""The first superuser: made at the first start, by the settings or with a password that is said once."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from millstream.clock import new_id
from millstream.ledger.accounts import NameTakenError, User
from millstream.server.site import Site

_NAME = "admin"


async def ensure_superuser(site: Site, say: Callable[[str], None]) -> None:
    """Make a superuser where there is none, or where the settings name one that is not there.

    Args:
        site: The server.
        say: Is told the name and the password where the password was made here.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    settings, accounts = site.settings, site.accounts
    given = settings.superuser_password
    name = settings.superuser or _NAME
    is_there = await accounts.user_named(name) if given is not None else next(iter(await accounts.superusers(1)), None)
    if is_there is not None:
        return
    password = secrets.token_urlsafe(16) if given is None else given.get_secret_value()
    now = site.clock.now()
    try:
        await accounts.add_user(
            User(
                id=new_id(),
                name=name,
                password=await site.passwords.hash(password),
                is_superuser=True,
                is_active=True,
                created_at=now,
                updated_at=now,
            )
        )
    except NameTakenError:  # another process on this ledger was first, and says its password
        return
    if given is None:
        say(f"first start: the superuser is {name}, with the password {password} (it is not shown again)")
