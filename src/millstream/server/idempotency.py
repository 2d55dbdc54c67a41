"""`Idempotency-Key`: a request that is sent again, since its answer was lost, makes no second job.

The same key with the same work and inputs is answered with the same job; with others it is refused (409). A key
belongs to the user who sends it: two users may have the same.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, HTTPException

LONGEST = 200
"""Characters that a key may have."""

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def scoped(user: str, key: str | None) -> str | None:
    """Return the key under which the ledger knows a job of a user; `None` where a request has none.

    Args:
        user: Id of the user whose job it is.
        key: What the request was sent with.

    Example:
        >>> scoped("0195a1a2-0000-7000-8000-000000000000", "order-17")
        '0195a1a2-0000-7000-8000-000000000000/order-17'
    """
    return None if key is None else f"{user}/{key}"


def checked(key: str) -> str:
    """Return a key that a client may choose.

    Raises:
        HTTPException: 400: it is empty, too long, or has other characters than printable ones of ASCII.

    Example:
        >>> checked("order-17")
        'order-17'
    """
    if len(key) > LONGEST:
        raise HTTPException(400, f"Idempotency-Key has {len(key)} characters, but may have {LONGEST}")
    if not _KEY.fullmatch(key):
        raise HTTPException(400, f"Idempotency-Key is {key!r}, but has to be 1 to {LONGEST} printable ASCII characters")
    return key


async def _given(
    idempotency_key: Annotated[
        str | None,
        Header(description="Makes it safe to send this again: one key never makes two jobs.", examples=["order-17"]),
    ] = None,
) -> str | None:
    return None if idempotency_key is None else checked(idempotency_key)


GivenKey = Annotated[str | None, Depends(_given)]
"""The key that a request was sent with, if any; `scoped` makes the ledger's key of it."""
