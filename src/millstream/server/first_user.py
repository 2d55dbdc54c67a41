"""The first superuser: made at the first start, by the settings or with a password that is said once."""

from __future__ import annotations

import secrets
import shlex
import string
from collections.abc import Callable
from typing import Final

from millstream.clock import new_id
from millstream.ledger.accounts import NameTakenError, User
from millstream.server.site import Site

_NAME: Final = "admin"

_SIGNS: Final = string.ascii_letters + string.digits
"""What passwords are made of here: no sign of them means something to a shell or a program."""

_LENGTH: Final = 22
"""Of such a password: 131 bits."""


async def ensure_superuser(site: Site, say: Callable[[str], None]) -> None:
    """Make a superuser where there is none, or where the settings name one that is not there.

    Args:
        site: The server.
        say: Is told the name and the password where the password was made here, and that the one in the settings is not
            used where that user is there with another.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    settings, accounts = site.settings, site.accounts
    given = settings.superuser_password
    name = settings.superuser or _NAME
    is_there = await accounts.user_named(name) if given is not None else next(iter(await accounts.superusers(1)), None)
    if is_there is not None:
        if given is not None and not await site.passwords.is_right(given.get_secret_value(), is_there.password):
            change = f"`millstream users password {shlex.quote(name)}` changes it"
            say(f"superuser_password is not used: the user {name} is there already, with another password; {change}")
        return
    password = _new_password() if given is None else given.get_secret_value()
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


def _new_password() -> str:
    return "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))
