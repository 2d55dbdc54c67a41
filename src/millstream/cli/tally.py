"""Counts how far a job is, from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millstream.model.event import Event

_ENDS = {"node_succeeded", "node_skipped", "node_upstream_failed", "node_cancelled", "node_failed"}


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running node last said with `ctx.progress`.

    Attributes:
        done: How much is done.
        total: How much there is, where that is known.
        message: One line for people.
    """

    done: float
    total: float | None
    message: str | None

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1; 0 where that is unknown."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 0.0


@dataclass
class Tally:
    """The state of a job's nodes.

    Attributes:
        total: Nodes that are known so far.
        done: Nodes that have ended.
        failed: Nodes that have failed.
        running: Paths of the nodes that run.
        waiting: Paths of the nodes that wait: for a time, an approval, or another attempt.
        progress: What running nodes last said, by path; who spoke last comes last.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    running: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    progress: dict[str, Progress] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Count an event."""
        kind, node, told = event.type, event.node or "", event.data
        if kind in _ENDS:
            self._leave(node)
            self.done += 1
            self.failed += kind == "node_failed"
        elif kind == "node_started":
            self._leave(node)
            self.running.add(node)
        elif kind in ("waiting", "node_retried"):
            self._leave(node)
            self.waiting.add(node)
        elif kind in ("planned", "expanded"):
            self.total += told["nodes"]
        elif kind == "progress":
            self._heard(node, told)

    @property
    def share(self) -> float:
        """How much of the job is done, 0 to 1; what running nodes say of themselves counts."""
        inside = sum(progress.share for progress in list(self.progress.values()))
        return (self.done + inside) / self.total if self.total else 0.0

    def eta(self, elapsed: float) -> float | None:
        """Return the seconds that are left if it goes on as it went; `None` before anything is done.

        >>> Tally(total=4, done=1).eta(elapsed=10.0)
        30.0
        """
        share = self.share
        return elapsed * (1 - share) / share if share else None

    def _leave(self, node: str) -> None:
        self.running.discard(node)
        self.waiting.discard(node)
        self.progress.pop(node, None)

    def _heard(self, node: str, told: dict[str, Any]) -> None:
        self.progress.pop(node, None)
        self.progress[node] = Progress(told["done"], told.get("total"), told.get("message"))
