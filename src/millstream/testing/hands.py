"""In which segments a job's nodes may run, as its events tell: in the main one, unless that handed them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from millstream.testing.history import EventRow

MAIN = 1


class Hands:
    """The segments of one job's nodes, as they are behind each of its events.

    Args:
        events: All durable events of the job, in order.
    """

    def __init__(self, events: Iterable[EventRow]) -> None:
        self._now: dict[str, set[int]] = {}
        self._ever: dict[str, set[int]] = {}
        self._since: dict[str, int] = {}
        self._at: dict[int, frozenset[int]] = {}
        for event in events:
            self._take(event)

    def at(self, event: EventRow) -> frozenset[int]:
        """Return the segments in which what an event tells of its node may have happened."""
        return self._at.get(event.seq, frozenset({MAIN}))

    def ever(self, node: str) -> frozenset[int]:
        """Return the segments in which a node may have begun at any time."""
        return self._of(self._ever, node)

    def since(self, node: str) -> int | None:
        """Return the number of the event that handed a node out first; `None` where none did."""
        return self._since.get(node)

    def _take(self, event: EventRow) -> None:
        if event.node is not None:
            self._at[event.seq] = self._of(self._now, event.node)
        if event.type == "handed_out" and event.segment is not None:
            for path in event.nodes:
                self._now[path] = {event.segment}
                self._since.setdefault(path, event.seq)
                self._ever.setdefault(path, set()).add(event.segment)
        elif event.type == "taken_back" and event.segment is not None:
            self._come_back(path for path, segments in self._now.items() if event.segment in segments)
        elif event.type == "expanded" and event.node in self._now:
            self._come_back([event.node])

    def _come_back(self, paths: Iterable[str]) -> None:
        """Let the main segment run these nodes, too: what had begun elsewhere may have been recorded."""
        for path in paths:
            self._now[path].add(MAIN)
            self._ever[path].add(MAIN)

    @staticmethod
    def _of(segments: dict[str, set[int]], node: str) -> frozenset[int]:
        """Return the segments of a node; what grew inside of one that is out belongs to the main segment as well."""
        if node in segments:
            return frozenset(segments[node])
        return frozenset({MAIN}.union(*(segments.get(path, ()) for path in _around(node))))


def _around(node: str) -> Iterator[str]:
    """Yield the paths of the nodes in whose places a node grew, the nearest first.

    >>> list(_around("a[2]/b"))
    ['a[2]', 'a']
    """
    for end in range(len(node) - 1, 0, -1):
        if node[end] in "[/":
            yield node[:end]
