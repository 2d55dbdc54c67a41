"""The queue of ready nodes where some go before others."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count

from millstream.graph.plan import Place


class PriorityQueue:
    """Ready nodes by priority, the higher first, else in the order in which they became ready."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        """Start with some places."""
        self._heap: list[tuple[int, int, Place]] = []
        self._order = count()
        self.extend(places)

    def extend(self, places: Iterable[Place]) -> None:
        """Add places."""
        for frame, index in places:
            policy = frame.content.policy(index)
            heapq.heappush(self._heap, (-(policy.priority if policy else 0), next(self._order), (frame, index)))

    def popleft(self) -> Place:
        """Take the place that goes first."""
        return heapq.heappop(self._heap)[2]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._heap)
