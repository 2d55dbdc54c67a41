"""What every record of users promises: who may sign in, with which sessions and API keys, and how often.

Secrets are never here: of a password there is its argon2id hash, of a token or API key its SHA-256 digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from millstream.errors import MillstreamError


class UserNotFoundError(MillstreamError, LookupError):
    """Raised when there is no user with this id."""


class NameTakenError(MillstreamError):
    """Raised when something else has the name already.

    Attributes:
        field: Which field holds it: `name`, `endpoint_name` or `id`.
        value: The name.
    """

    def __init__(self, field: str, value: str) -> None:
        """Take the field and the name."""
        super().__init__(f"the {field} {value!r} is taken already; choose another one")
        self.field = field
        self.value = value


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Who may sign in.

    Attributes:
        id: A UUID.
        name: What one signs in with; no two users have the same.
        password: The argon2id hash of the password; `None` for a user who cannot sign in with one.
        is_superuser: Whether the user may see and do everything.
        is_active: Whether the user may do anything at all.
        created_at: Seconds since the epoch, UTC.
        updated_at: When something of this was last changed.
    """

    id: str
    name: str
    password: str | None
    is_superuser: bool = False
    is_active: bool = True
    created_at: float
    updated_at: float


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a token stands for.

    Attributes:
        digest: SHA-256 of the token, in hexadecimal digits.
        user: Id of the user.
        kind: `access` tokens come with requests; a `refresh` token is only exchanged for new ones.
        family: Shared by all tokens that one sign-in led to.
        created_at: Seconds since the epoch, UTC.
        expires_at: From when on it is not valid any more.
    """

    digest: str
    user: str
    kind: Literal["access", "refresh"]
    family: str
    created_at: float
    expires_at: float


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key for programs.

    Attributes:
        id: Its public part, by which it is found.
        user: Id of the user for whom it acts.
        name: What the user calls it.
        digest: SHA-256 of the key, in hexadecimal digits.
        scopes: What it may be used for, such as `run:write`; everything without.
        created_at: Seconds since the epoch, UTC.
        expires_at: From when on it is not valid any more; `None` for never.
        last_used_at: When it was last used, to a minute; `None` if it never was.
    """

    id: str
    user: str
    name: str
    digest: str
    scopes: tuple[str, ...] = ()
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None


class Accounts(Protocol):
    """Users, their sessions and API keys, and limits that all processes share.

    What is asked with every request (`session`, `key`) is one statement by an index. Nothing that has expired, or
    belongs to a user who is gone or not active, is ever returned by these two. Each method may also raise
    `LedgerUnavailableError` or `StorageFullError`.
    """

    # ------------------------------------------------------------------------------------------------------- users
    async def add_user(self, user: User) -> None:
        """Record a new user.

        Raises:
            NameTakenError: Another one has the name, or the id.
            DefinitionError: The name has characters that no database takes.
        """

    async def user(self, user_id: str) -> User:
        """Return a user.

        Raises:
            UserNotFoundError: There is none with this id.
        """

    async def user_named(self, name: str) -> User | None:
        """Return the user of a name, active or not; `None` where there is none."""

    async def users(self, after: str | None = None, limit: int = 100) -> list[User]:
        """Return at most `limit` users, in the order of their ids.

        Args:
            after: The id where the last page ended.
            limit: At most this many.
        """

    async def superusers(self, limit: int = 1) -> list[User]:
        """Return at most `limit` active superusers, in the order of their ids: with `new_id`, the oldest first."""

    async def change_user(self, user_id: str, **changes: Any) -> User:
        """Change fields of a user, and return the user as it then is; `updated_at` changes by itself.

        Args:
            user_id: Whom.
            changes: New values of `name`, `password`, `is_superuser` or `is_active`.

        Raises:
            UserNotFoundError: There is no such user.
            NameTakenError: Another one has the name.
            DefinitionError: The name has characters that no database takes.
        """

    async def remove_user(self, user_id: str) -> bool:
        """Remove a user with sessions, API keys, projects and flows; return whether there was one. Jobs stay."""

    # ---------------------------------------------------------------------------------------------------- sessions
    async def begin(self, sessions: Sequence[Session]) -> None:
        """Record new sessions of one user, all or none.

        Raises:
            UserNotFoundError: The user is gone.
        """

    async def renew(self, digest: str, sessions: Sequence[Session]) -> bool:
        """End one session and begin others in its place, all or nothing; of several who try it at once, one succeeds.

        Returns whether it was done; not where the session has ended or expired, or its user is gone or not active.
        """

    async def session(self, digest: str) -> tuple[Session, User] | None:
        """Return the session of a token with its user, unless it has ended or expired or the user is not active."""

    async def end_family(self, family: str) -> None:
        """End all sessions that one sign-in led to."""

    async def end_sessions(self, user_id: str, except_family: str | None = None) -> None:
        """End all sessions of a user, but those of one family where one is named."""

    # ---------------------------------------------------------------------------------------------------- API keys
    async def add_key(self, key: ApiKey) -> None:
        """Record a new API key.

        Raises:
            UserNotFoundError: The user is gone.
            NameTakenError: There is one with this id.
            DefinitionError: Its name has characters that no database takes.
        """

    async def key(self, key_id: str) -> tuple[ApiKey, User] | None:
        """Return an API key with its user, unless it has expired or the user is not active."""

    async def keys(self, user_id: str) -> list[ApiKey]:
        """Return the API keys of a user, expired ones too, in the order of their ids."""

    async def remove_key(self, user_id: str, key_id: str) -> bool:
        """Remove an API key of a user; return whether the user had it."""

    async def touch_key(self, key_id: str) -> None:
        """Take note that an API key is used; once a minute suffices, and more is not written."""

    # ------------------------------------------------------------------------------------------------------ limits
    async def take(self, bucket: str, capacity: int, seconds: float) -> float:
        """Take one token from a bucket; return 0.0 if there was one, else the seconds until there is.

        All processes share the buckets, which go by the database's clock. A refusal takes nothing and writes nothing.

        Args:
            bucket: Its name; one that nobody took from lately is full.
            capacity: Tokens of a full bucket, 1 or more.
            seconds: In how long an empty bucket fills up again, above 0.
        """

    async def give_back(self, bucket: str, capacity: int, seconds: float) -> None:
        """Put back a token that was taken for what need not be limited after all; a full bucket stays full.

        Args:
            bucket: As it was for `take`.
            capacity: As above.
            seconds: As above.
        """
