"""What the commands about users, API keys and flow documents share: the ledger that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from millstream.cli.exits import WrongUseError
from millstream.cli.session import Session
from millstream.clock import SystemClock
from millstream.ledger.accounts import Accounts, User

if TYPE_CHECKING:
    from millstream.ledger.sql import SqlLedger

NEEDS_SERVER = 'users and API keys need the extra "server"; install it with pip install "millstream[server]"'

_PAGE = 1000


@asynccontextmanager
async def opened(session: Session, *, makes: bool = False) -> AsyncIterator[Accounts]:
    """Open the accounts within the block; takes and raises what `opened_ledger` does."""
    async with opened_ledger(session, makes=makes) as ledger:
        yield ledger.accounts


@asynccontextmanager
async def opened_ledger(session: Session, *, makes: bool = False) -> AsyncIterator[SqlLedger]:
    """Open the ledger that the settings name within the block; no server has to run.

    Args:
        session: Knows the settings.
        makes: Whether a ledger is made where there is none; looking makes none.

    Raises:
        SettingsError: A setting is wrong.
        NoLedgerError: There is no ledger.
        LedgerUnavailableError: It cannot be reached.
    """
    from millstream.cli.logs import configure  # noqa: PLC0415  structlog: --help and completion do without
    from millstream.ledger.database import require_ledger  # noqa: PLC0415  SQLAlchemy: as above
    from millstream.ledger.sql import SqlLedger  # noqa: PLC0415  as above

    settings = session.settings(needs_workers=False)
    configure(settings.log_level, settings.log_format)
    ledger = SqlLedger(settings.effective_database_url, SystemClock())
    if not makes:
        require_ledger(ledger.database)
    try:
        await ledger.open()
        yield ledger
    finally:
        await ledger.close()


async def named(accounts: Accounts, name: str) -> User:
    """Return the user of a name.

    Raises:
        WrongUseError: There is none.
    """
    found = await accounts.user_named(name)
    if found is None:
        raise WrongUseError(f"there is no user {name!r}")
    return found


async def everybody(accounts: Accounts) -> AsyncIterator[User]:
    """Yield all users, however many there are, in the order in which they were added."""
    last = None
    while page := await accounts.users(after=last, limit=_PAGE):
        for user in page:
            yield user
        last = page[-1].id


async def hashed(password: str) -> str:
    """Return the hash of a password.

    Raises:
        WrongUseError: The package that makes it is not installed.
    """
    try:
        from millstream.server.passwords import Passwords  # noqa: PLC0415  argon2: only who needs it pays for it
    except ImportError as missing:
        raise WrongUseError(NEEDS_SERVER) from missing
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()
