"""What tells a ledger from all others, and signs messages about it."""

from __future__ import annotations

import secrets

import msgspec

from millstream.clock import new_id

_KEY_BYTES = 32


class Identity(msgspec.Struct, frozen=True):
    """What tells a ledger from all others, made once with it.

    Attributes:
        id: Its id, a UUID of version 7.
        key: What messages about it are signed with: 32 random bytes, a secret.
    """

    id: str
    key: bytes

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"Identity(id={self.id!r})"


def new_identity() -> Identity:
    """Return what a new ledger gets."""
    return Identity(new_id(), secrets.token_bytes(_KEY_BYTES))
