"""Results by key, in memory, for as long as their `cache_ttl` says."""

from __future__ import annotations

import copy
from typing import Any

_LIMIT = 10_000


class MemoryCache:
    """Keeps at most ten thousand results; the oldest go first. Each taker gets a copy of its own."""

    def __init__(self) -> None:
        """Start empty."""
        self._results: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, now: float) -> tuple[bool, Any]:
        """Return whether there is a result for the key at that time, and the result."""
        expires_at, value = self._results.get(key, (0.0, None))
        if now < expires_at:
            return True, copy.deepcopy(value)
        self._results.pop(key, None)
        return False, None

    def put(self, key: str, value: Any, expires_at: float) -> None:
        """Keep a result until a time."""
        self._results.pop(key, None)
        while len(self._results) >= _LIMIT:
            del self._results[next(iter(self._results))]
        self._results[key] = (expires_at, copy.deepcopy(value))
