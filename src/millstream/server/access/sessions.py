"""Sessions: begun at sign-in, renewed by refresh tokens, ended at sign-out; looked up at most once a second each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, Literal, TypeVar

from millstream.clock import Clock
from millstream.ledger.accounts import Accounts, ApiKey, Session, User
from millstream.server.access.principal import Principal
from millstream.server.access.tokens import digest_of, is_family, new_family, new_token

T = TypeVar("T")

ACCESS: Final = timedelta(hours=1)
REFRESH: Final = timedelta(days=7)
COOKIE: Final = timedelta(days=7)

_FRESH_SECONDS: Final = 1.0
"""How long what was looked up counts: what another process revokes is refused here at the latest after it."""

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in gives out; nowhere stored.

    Attributes:
        access: Goes into `Authorization: Bearer`.
        refresh: Gives new tokens, once.
        cookie: As `access`, for the browser; it lives longer.
    """

    access: str
    refresh: str
    cookie: str


class Recent(Generic[T]):
    """Remembers for a second what was looked up.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        """Remember nothing yet."""
        self._clock = clock
        self._known: dict[str, tuple[float, T]] = {}
        self._forgotten = 0

    async def get(self, name: str, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return what is remembered under a name, else look it up; what is not there is not remembered."""
        now = self._clock.monotonic()
        known = self._known.get(name)
        if known is not None and known[0] > now:
            return known[1]
        forgotten = self._forgotten
        found = await look()
        if found is None:
            self._known.pop(name, None)
            return None
        if forgotten != self._forgotten:  # it was looked up before what was revoked since
            return found
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[name] = (now + _FRESH_SECONDS, found)
        return found

    def forget(self) -> None:
        """Look everything up anew: something was revoked here."""
        self._forgotten += 1
        self._known.clear()


class Sessions:
    """Begins, finds and ends sessions.

    Args:
        accounts: Where they are stored.
        clock: The time.
    """

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        """Remember nothing yet."""
        self._accounts, self._clock = accounts, clock
        self._sessions: Recent[tuple[Session, User]] = Recent(clock)
        self._keys: Recent[tuple[ApiKey, User]] = Recent(clock)
        self._superusers: Recent[User] = Recent(clock)

    async def begin(self, user: User, family: str | None = None) -> Tokens:
        """Sign a user in, and return the tokens.

        Args:
            user: The user.
            family: The sign-in that is renewed; by default a new one.
        """
        tokens, sessions = self._new(user.id, family or new_family())
        await self._accounts.begin(sessions)
        return tokens

    async def renew(self, token: str) -> Tokens | None:
        """Exchange a refresh token for new tokens; `None` where it is not valid any more."""
        found = await self.refreshing(token)
        if found is None:
            return None
        tokens, sessions = self._new(found[1].id, found[0].family)
        if await self._accounts.renew(digest_of(token), sessions):
            return tokens
        await self._end(found[0].family)
        return None

    async def refreshing(self, token: str) -> tuple[Session, User] | None:
        """Return the session of a refresh token and its user; what is remembered of it does not count.

        One that was exchanged before is known to two, of whom one stole it: the sign-in is over for both.
        """
        found = await self._accounts.session(digest_of(token))
        if found is not None:
            return found if found[0].kind == "refresh" else None
        family, dot, _ = token.partition(".")
        if dot and is_family(family):
            await self._end(family)
        return None

    def _new(self, user_id: str, family: str) -> tuple[Tokens, list[Session]]:
        now = self._clock.now()
        tokens = Tokens(new_token(), f"{family}.{new_token()}", new_token())

        def session(token: str, kind: Literal["access", "refresh"], lasts: timedelta) -> Session:
            return Session(
                digest=digest_of(token),
                user=user_id,
                kind=kind,
                family=family,
                created_at=now,
                expires_at=now + lasts.total_seconds(),
            )

        return tokens, [
            session(tokens.access, "access", ACCESS),
            session(tokens.refresh, "refresh", REFRESH),
            session(tokens.cookie, "access", COOKIE),
        ]

    async def end(self, principal: Principal) -> None:
        """End the sign-in that a principal came by."""
        if principal.family is not None:
            await self._end(principal.family)

    async def end_others(self, user_id: str, family: str | None) -> None:
        """End the sign-ins of a user, but for the one of this family."""
        await self._accounts.end_sessions(user_id, family)
        self.forget()

    async def _end(self, family: str) -> None:
        await self._accounts.end_family(family)
        self.forget()

    async def find(self, token: str) -> tuple[Session, User] | None:
        """Return the session of a token and its user, if it goes on and the user is active."""
        digest = digest_of(token)
        found = await self._sessions.get(digest, lambda: self._accounts.session(digest))
        return None if found is None or found[0].expires_at <= self._clock.now() else found

    async def key(self, key_id: str) -> tuple[ApiKey, User] | None:
        """Return an API key and its user, if it has not expired and the user is active."""
        found = await self._keys.get(key_id, lambda: self._look_up_key(key_id))
        if found is None or (found[0].expires_at is not None and found[0].expires_at <= self._clock.now()):
            return None
        return found

    async def _look_up_key(self, key_id: str) -> tuple[ApiKey, User] | None:
        found = await self._accounts.key(key_id)
        if found is not None:
            await self._accounts.touch_key(key_id)
        return found

    async def first_superuser(self) -> User | None:
        """Return who stands for those on this machine that say nothing."""

        async def look() -> User | None:
            return next(iter(await self._accounts.superusers(1)), None)

        return await self._superusers.get("", look)

    def forget(self) -> None:
        """Look everything up anew, since something was revoked."""
        self._sessions.forget()
        self._keys.forget()
        self._superusers.forget()
