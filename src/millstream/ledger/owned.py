"""What all that belongs to users has in common in the database: an owner who is there, and names that are free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from millstream.errors import DefinitionError
from millstream.ledger import schema
from millstream.ledger.accounts import UserNotFoundError
from millstream.ledger.database import CollisionError, Connection
from millstream.ledger.rows import is_text


def check_texts(**texts: str | None) -> None:
    """See that a database can take these texts.

    Raises:
        DefinitionError: It cannot.
    """
    for name, text in texts.items():
        if text is not None and not is_text(text):
            raise DefinitionError(f"the {name} {text!r} has characters that no database takes")


def lock_user(connection: Connection, user_id: str) -> None:
    """Keep a user from being removed until the transaction ends.

    Raises:
        UserNotFoundError: There is no such user any more.
    """
    who = sa.select(schema.user.c.id).where(schema.user.c.id == user_id)
    if connection.raw.execute(who.with_for_update(read=True, key_share=True)).first() is None:
        raise UserNotFoundError(f"there is no user {user_id!r}")


@contextmanager
def names_taken() -> Iterator[None]:
    """Make a transaction again in which somebody else was quicker to take a name: it then finds the name taken."""
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise CollisionError("another transaction took a name meanwhile") from error
