"""Users, sessions, API keys and limits in a ledger's database."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict, replace

from millstream.clock import Clock
from millstream.ledger import schema
from millstream.ledger.accounts import ApiKey, NameTakenError, Session, User, UserNotFoundError
from millstream.ledger.asking import Asking
from millstream.ledger.buckets import Buckets, Take
from millstream.ledger.database import Connection, transaction
from millstream.ledger.owned import check_texts, lock_user, names_taken
from millstream.ledger.queries import Queries
from millstream.ledger.rows import is_text
from millstream.ledger.statements import Statement, given

U, S, K = schema.user.c, schema.session.c, schema.api_key.c

_USER, _SESSION, _KEY = tuple(schema.user.c), tuple(schema.session.c), tuple(schema.api_key.c)
_CHANGEABLE = frozenset({"name", "password", "is_superuser", "is_active"})
_USED_SECONDS = 60.0
_AT_ONCE = 1000
_OF_USER = (S.owner, K.owner, schema.project.c.owner, schema.flow.c.owner)


class SqlAccounts:
    """Keeps accounts in a database; see `Accounts` for what its methods promise.

    Args:
        asking: Asks the ledger's threads.
        dialect: The database's.
        clock: Says what has expired.
    """

    def __init__(self, asking: Asking, dialect: sa.Dialect, clock: Clock) -> None:
        """Compile nothing yet."""
        self._asking = asking
        self._clock = clock
        self._queries = Queries(dialect)
        self._buckets = Buckets(self._queries)

    @cached_property
    def _session(self) -> Statement:
        found = schema.session.join(schema.user, (U.id == S.owner) & U.is_active)
        is_valid = (S.digest == given("digest")) & (S.expires_at > given("now", sa.Double))
        return self._queries.statement(sa.select(*_SESSION, *_USER).select_from(found).where(is_valid))

    @cached_property
    def _key(self) -> Statement:
        found = schema.api_key.join(schema.user, (U.id == K.owner) & U.is_active)
        is_valid = K.expires_at.is_(None) | (K.expires_at > given("now", sa.Double))
        return self._queries.statement(sa.select(*_KEY, *_USER).select_from(found).where(K.id == given("id"), is_valid))

    @cached_property
    def _last_use(self) -> Statement:
        return self._queries.statement(sa.select(K.last_used_at).where(K.id == given("id")))

    # ------------------------------------------------------------------------------------------------------- users
    async def add_user(self, user: User) -> None:
        """Record a new user; see `Accounts.add_user`."""
        check_texts(id=user.id, name=user.name)

        def add(connection: Connection) -> None:
            with transaction(connection), names_taken():
                if connection.raw.execute(sa.select(U.id).where(U.id == user.id)).first():
                    raise NameTakenError("id", user.id)
                _check_free(connection, user)
                connection.raw.execute(sa.insert(schema.user).values(asdict(user)))

        await self._asking.write(add)

    async def user(self, user_id: str) -> User:
        """Return a user; see `Accounts.user`."""
        found = await self._users(sa.select(*_USER).where(U.id == user_id)) if is_text(user_id) else []
        if not found:
            raise UserNotFoundError(f"there is no user {user_id!r}")
        return found[0]

    async def user_named(self, name: str) -> User | None:
        """Return the user of a name; see `Accounts.user_named`."""
        found = await self._users(sa.select(*_USER).where(U.name == name)) if is_text(name) else []
        return found[0] if found else None

    async def users(self, after: str | None = None, limit: int = 100) -> list[User]:
        """Return a page of users; see `Accounts.users`."""
        check_texts(after=after)
        rest = sa.select(*_USER) if after is None else sa.select(*_USER).where(U.id > after)
        return await self._users(rest.order_by(U.id).limit(limit))

    async def superusers(self, limit: int = 1) -> list[User]:
        """Return active superusers; see `Accounts.superusers`."""
        active = sa.select(*_USER).where(U.is_superuser, U.is_active)
        return await self._users(active.order_by(U.id).limit(limit))

    async def change_user(self, user_id: str, **changes: Any) -> User:
        """Change fields of a user; see `Accounts.change_user`."""
        for name in changes.keys() - _CHANGEABLE:
            raise TypeError(f"{name} of a user cannot be changed; what can is {', '.join(sorted(_CHANGEABLE))}")
        check_texts(name=changes.get("name"))
        now = self._clock.now()

        def change(connection: Connection) -> User:
            with transaction(connection), names_taken():
                found = connection.raw.execute(sa.select(*_USER).where(U.id == user_id).with_for_update()).first()
                if found is None:
                    raise UserNotFoundError(f"there is no user {user_id!r}")
                user = replace(_user(found), **changes, updated_at=now)
                _check_free(connection, user)
                values = asdict(user)
                connection.raw.execute(sa.update(schema.user).where(U.id == user_id).values(values))
                return user

        return await self._asking.write(change)

    async def remove_user(self, user_id: str) -> bool:
        """Remove a user with what belongs to the user; see `Accounts.remove_user`."""

        def remove(connection: Connection) -> bool:
            with transaction(connection):
                gone = connection.raw.execute(sa.delete(schema.user).where(U.id == user_id)).rowcount
                for owner in _OF_USER if gone else ():
                    connection.raw.execute(sa.delete(owner.table).where(owner == user_id))
                return gone == 1

        return await self._asking.write(remove)

    async def _users(self, which: sa.Select[Any]) -> list[User]:
        return await self._asking.read(lambda connection: [_user(row) for row in connection.raw.execute(which)])

    # ---------------------------------------------------------------------------------------------------- sessions
    async def begin(self, sessions: Sequence[Session]) -> None:
        """Record new sessions; see `Accounts.begin`."""

        def begin(connection: Connection) -> None:
            with transaction(connection):
                lock_user(connection, sessions[0].user)
                connection.raw.execute(sa.insert(schema.session), [_session_row(session) for session in sessions])

        if sessions:
            await self._asking.write(begin)

    async def renew(self, digest: str, sessions: Sequence[Session]) -> bool:
        """End one session and begin others; see `Accounts.renew`."""
        now = self._clock.now()

        def renew(connection: Connection) -> bool:
            with transaction(connection):
                found = connection.run(self._session.sql, self._session.fill(digest=digest, now=now))
                if not found:
                    return False
                try:
                    lock_user(connection, found[0][1])
                except UserNotFoundError:
                    return False
                if not connection.raw.execute(sa.delete(schema.session).where(S.digest == digest)).rowcount:
                    return False
                if sessions:
                    connection.raw.execute(sa.insert(schema.session), [_session_row(session) for session in sessions])
                return True

        return is_text(digest) and await self._asking.write(renew)

    async def session(self, digest: str) -> tuple[Session, User] | None:
        """Return the session of a token; see `Accounts.session`."""
        if not is_text(digest):
            return None
        values = self._session.fill(digest=digest, now=self._clock.now())
        rows = await self._asking.read(lambda connection: connection.run(self._session.sql, values))
        return (_session(rows[0]), _user(rows[0][len(_SESSION) :])) if rows else None

    async def end_family(self, family: str) -> None:
        """End the sessions of a family; see `Accounts.end_family`."""
        await self._end(S.family == family)

    async def end_sessions(self, user_id: str, except_family: str | None = None) -> None:
        """End the sessions of a user; see `Accounts.end_sessions`."""
        await self._end(S.owner == user_id, *([] if except_family is None else [S.family != except_family]))

    async def _end(self, *which: sa.ColumnElement[bool]) -> None:
        def end(connection: Connection) -> None:
            with transaction(connection):
                connection.raw.execute(sa.delete(schema.session).where(*which))

        await self._asking.write(end)

    # ---------------------------------------------------------------------------------------------------- API keys
    async def add_key(self, key: ApiKey) -> None:
        """Record a new API key; see `Accounts.add_key`."""
        check_texts(id=key.id, name=key.name, **{f"scope {i}": scope for i, scope in enumerate(key.scopes)})

        def add(connection: Connection) -> None:
            with transaction(connection), names_taken():
                lock_user(connection, key.user)
                if connection.raw.execute(sa.select(K.id).where(K.id == key.id)).first():
                    raise NameTakenError("id", key.id)
                connection.raw.execute(sa.insert(schema.api_key).values(_key_row(key)))

        await self._asking.write(add)

    async def key(self, key_id: str) -> tuple[ApiKey, User] | None:
        """Return an API key; see `Accounts.key`."""
        if not is_text(key_id):
            return None
        values = self._key.fill(id=key_id, now=self._clock.now())
        rows = await self._asking.read(lambda connection: connection.run(self._key.sql, values))
        return (_key(rows[0]), _user(rows[0][len(_KEY) :])) if rows else None

    async def keys(self, user_id: str) -> list[ApiKey]:
        """Return the API keys of a user; see `Accounts.keys`."""
        which = sa.select(*_KEY).where(K.owner == user_id).order_by(K.id)
        return await self._asking.read(lambda connection: [_key(row) for row in connection.raw.execute(which)])

    async def remove_key(self, user_id: str, key_id: str) -> bool:
        """Remove an API key; see `Accounts.remove_key`."""

        def remove(connection: Connection) -> bool:
            with transaction(connection):
                which = sa.delete(schema.api_key).where(K.id == key_id, K.owner == user_id)
                return connection.raw.execute(which).rowcount == 1

        return is_text(key_id) and await self._asking.write(remove)

    async def touch_key(self, key_id: str) -> None:
        """Take note that an API key is used; see `Accounts.touch_key`."""
        now = self._clock.now()

        def use(connection: Connection) -> None:
            with transaction(connection):
                connection.raw.execute(sa.update(schema.api_key).where(K.id == key_id).values(last_used_at=now))

        asked = self._last_use.fill(id=key_id)
        found = await self._asking.read(lambda connection: connection.run(self._last_use.sql, asked))
        if found and (found[0][0] is None or found[0][0] + _USED_SECONDS < now):
            await self._asking.write(use)

    # ------------------------------------------------------------------------------------------------------ limits
    async def take(self, bucket: str, capacity: int, seconds: float) -> float:
        """Take one token from a bucket; see `Accounts.take`."""
        take = Take(bucket, capacity, seconds)
        wait = await self._asking.read(lambda connection: self._buckets.wait(connection, take))
        return wait or await self._asking.write(lambda connection: self._buckets.take(connection, take))

    async def give_back(self, bucket: str, capacity: int, seconds: float) -> None:
        """Put a token back; see `Accounts.give_back`."""
        take = Take(bucket, capacity, seconds)
        await self._asking.write(lambda connection: self._buckets.give_back(connection, take))

    # ----------------------------------------------------------------------------------------------------- sweeping
    async def sweep(self) -> None:
        """Remove expired sessions, and buckets that are full; a bounded number in each transaction."""
        now = self._clock.now()
        due = sa.select(S.digest).where(S.expires_at <= now).limit(_AT_ONCE)

        def sweep(connection: Connection) -> int:
            with transaction(connection):
                return connection.raw.execute(sa.delete(schema.session).where(S.digest.in_(due))).rowcount

        while await self._asking.read(lambda connection: connection.raw.execute(due.limit(1)).first()):
            await self._asking.write(sweep)
        while await self._asking.read(self._buckets.is_any_full):
            await self._asking.write(self._buckets.sweep)


def _check_free(connection: Connection, user: User) -> None:
    """See that no other user has a user's name.

    Raises:
        NameTakenError: Another one has.
    """
    for name, user_id in connection.raw.execute(sa.select(U.name, U.id).where(U.name == user.name)):
        if user_id != user.id:
            raise NameTakenError("name", name)


def _user(row: Sequence[Any]) -> User:
    user_id, name, password, is_superuser, is_active, created_at, updated_at = row
    return User(
        id=user_id,
        name=name,
        password=password,
        is_superuser=bool(is_superuser),
        is_active=bool(is_active),
        created_at=created_at,
        updated_at=updated_at,
    )


def _session(row: Sequence[Any]) -> Session:
    digest, user, kind, family, created_at, expires_at = row[: len(_SESSION)]
    return Session(digest=digest, user=user, kind=kind, family=family, created_at=created_at, expires_at=expires_at)


def _session_row(session: Session) -> dict[str, Any]:
    row = asdict(session)
    return {"owner": row.pop("user"), **row}


def _key(row: Sequence[Any]) -> ApiKey:
    key_id, user, name, digest, scopes, created_at, expires_at, last_used_at = row[: len(_KEY)]
    return ApiKey(
        id=key_id,
        user=user,
        name=name,
        digest=digest,
        scopes=tuple(scopes.split()),
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
    )


def _key_row(key: ApiKey) -> dict[str, Any]:
    row = asdict(key)
    return {"owner": row.pop("user"), **row, "scopes": " ".join(key.scopes)}
