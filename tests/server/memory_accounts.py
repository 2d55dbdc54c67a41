"""Accounts in memory, until the ledger keeps them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from millstream.ledger.accounts import ApiKey, NameTakenError, Session, User, UserNotFoundError


class MemoryAccounts:
    def __init__(self) -> None:
        self.by_id: dict[str, User] = {}
        self.sessions: dict[str, Session] = {}
        self.api_keys: dict[str, ApiKey] = {}
        self.buckets: dict[str, tuple[float, float]] = {}

    async def add_user(self, user: User) -> None:
        if any(known.name == user.name for known in self.by_id.values()):
            raise NameTakenError("name", user.name)
        self.by_id[user.id] = user

    async def user(self, user_id: str) -> User:
        if user_id not in self.by_id:
            raise UserNotFoundError
        return self.by_id[user_id]

    async def user_named(self, name: str) -> User | None:
        return next((user for user in self.by_id.values() if user.name == name), None)

    async def users(self, after: str | None = None, limit: int = 100) -> list[User]:
        return [self.by_id[key] for key in sorted(self.by_id) if key > (after or "")][:limit]

    async def superusers(self, limit: int = 1) -> list[User]:
        return [user for user in await self.users(limit=10_000) if user.is_superuser and user.is_active][:limit]

    async def change_user(self, user_id: str, **changes: Any) -> User:
        changed = msgspec.structs.replace(await self.user(user_id), **changes)
        self.by_id[user_id] = changed
        return changed

    async def remove_user(self, user_id: str) -> bool:
        return self.by_id.pop(user_id, None) is not None

    async def begin(self, sessions: Sequence[Session]) -> None:
        self.sessions.update({session.digest: session for session in sessions})

    async def renew(self, digest: str, sessions: Sequence[Session]) -> bool:
        if self.sessions.pop(digest, None) is None:
            return False
        await self.begin(sessions)
        return True

    async def session(self, digest: str) -> tuple[Session, User] | None:
        found = self.sessions.get(digest)
        user = found and self.by_id.get(found.user)
        return (found, user) if found and user and user.is_active and found.expires_at > time.time() else None

    async def end_family(self, family: str) -> None:
        self.sessions = {key: known for key, known in self.sessions.items() if known.family != family}

    async def end_sessions(self, user_id: str, except_family: str | None = None) -> None:
        self.sessions = {
            key: known for key, known in self.sessions.items() if known.user != user_id or known.family == except_family
        }

    async def add_key(self, key: ApiKey) -> None:
        self.api_keys[key.id] = key

    async def key(self, key_id: str) -> tuple[ApiKey, User] | None:
        found = self.api_keys.get(key_id)
        return (found, self.by_id[found.user]) if found and found.user in self.by_id else None

    async def keys(self, user_id: str) -> list[ApiKey]:
        return [key for key in self.api_keys.values() if key.user == user_id]

    async def remove_key(self, user_id: str, key_id: str) -> bool:
        found = self.api_keys.get(key_id)
        return found is not None and found.user == user_id and bool(self.api_keys.pop(key_id))

    async def touch_key(self, key_id: str) -> None:
        pass

    async def take(self, bucket: str, capacity: int, seconds: float) -> float:
        now = time.monotonic()
        left, then = self.buckets.get(bucket, (float(capacity), now))
        left = min(capacity, left + (now - then) * capacity / seconds)
        if left < 1:
            return (1 - left) * seconds / capacity
        self.buckets[bucket] = (left - 1, now)
        return 0.0
