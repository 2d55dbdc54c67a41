"""Passwords: argon2id, at most two at once, and the same work whether the user is known or not."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib.hashers.argon2 import Argon2Hasher

T = TypeVar("T")

_SLOTS = 2
"""How many hashes are made at once: each takes memory and a core, and logins must leave both to the jobs."""

_KIBIBYTES, _PASSES = 46 << 10, 2
"""OWASP's first choice for argon2id with twice its passes; some 60 ms of one core."""

LONGEST = 1024
"""Characters of a password."""


class Passwords:
    """Makes and checks hashes of passwords, off the event loop; close it at the end."""

    def __init__(self) -> None:
        """Begin no thread before there is something to do."""
        self._hasher = Argon2Hasher(memory_cost=_KIBIBYTES, time_cost=_PASSES, parallelism=1)
        self._threads = ThreadPoolExecutor(_SLOTS, "millstream-passwords")
        self._of_nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a password, with a salt of its own."""
        return await self._aside(self._hasher.hash, password)

    async def is_right(self, password: str, stored: str | None) -> bool:
        """Return whether a password has this hash; where there is none the same work is done, and it is not.

        Args:
            password: What was given.
            stored: The user's hash; `None` where there is no such user, or one who cannot sign in by password.
        """
        if self._of_nobody is None:
            self._of_nobody = await self.hash(secrets.token_hex())
        is_possible = stored is not None and len(password) <= LONGEST
        fits = await self._aside(self._hasher.verify, password[:LONGEST], stored or self._of_nobody)
        return fits and is_possible

    async def _aside(self, work: Callable[..., T], *args: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def close(self) -> None:
        """End the threads; what they do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
