"""How a job went so far, node by node, as its durable events tell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millstream.ledger.facts import ENDS
from millstream.model.event import Event
from millstream.model.failure import Failure


@dataclass(slots=True)
class NodeStory:
    """How one node goes.

    Attributes:
        path: Its place in the job.
        state: Its state: one of the ends, or `running`, `waiting`, `retrying`, `ready` for one that was answered.
        at: When it came to that state.
        attempt: The last attempt that is known; 0 where it never started.
        reason: What it waits for: `timer`, `approval` or `decision`.
        until: When it goes on, where that is known.
        question: What an approval asks.
        error: What failed its last attempt.
    """

    path: str
    state: str
    at: float
    attempt: int = 0
    reason: str | None = None
    until: float | None = None
    question: Any = None
    error: Failure | None = None

    @property
    def is_asking(self) -> bool:
        """Whether it waits for somebody to say something."""
        return self.state == "waiting" and self.reason in ("approval", "decision")


@dataclass(frozen=True, slots=True)
class Begun:
    """One time that a process took the job up.

    Attributes:
        attempt: Which time, from 1.
        process: Id of the process, where the record has it.
        at: When.
    """

    attempt: int
    process: str | None
    at: float


@dataclass(slots=True)
class Story:
    """How a job went so far.

    Attributes:
        repeats: Id of the job that it repeats.
        known: Nodes that are known so far.
        nodes: Those of which something is recorded, by path, in the order in which it first was.
        attempts: The processes that took the job up, in order.
        last: Number of the last event.
    """

    repeats: str | None = None
    known: int = 0
    nodes: dict[str, NodeStory] = field(default_factory=dict)
    attempts: list[Begun] = field(default_factory=list)
    last: int = 0

    def take(self, event: Event) -> None:
        """Take the next event."""
        told = event.data if isinstance(event.data, dict) else {}
        self.last = event.seq
        if event.type in ("planned", "expanded"):
            self.known += told["nodes"]
            self.repeats = told.get("repeats", self.repeats)
        elif event.type == "started":
            self.attempts.append(Begun(told["attempt"], told.get("process"), event.at))
        elif event.node is not None and (state := _state_after(event)) is not None:
            self._move(event.node, state, event.at, told)

    def _move(self, path: str, state: str, at: float, told: dict[str, Any]) -> None:
        node = self.nodes.setdefault(path, NodeStory(path, state, at))
        node.state, node.at = state, at
        node.attempt = told.get("attempt", node.attempt)
        node.reason = told.get("reason") if state == "waiting" else None
        node.until = at + told["delay"] if state == "retrying" else told.get("until")
        node.question = told.get("question")
        node.error = told.get("error")

    @property
    def ended(self) -> int:
        """How many nodes have ended."""
        return sum(f"node_{node.state}" in ENDS for node in self.nodes.values())

    def asking(self) -> list[NodeStory]:
        """Return the nodes that wait for somebody to say something."""
        return [node for node in self.nodes.values() if node.is_asking]


def _state_after(event: Event) -> str | None:
    """Return the state in which an event leaves its node; `None` where it says nothing of that."""
    if event.type in ENDS:
        return ENDS[event.type].label
    return {"node_started": "running", "node_retried": "retrying", "waiting": "waiting", "answered": "ready"}.get(
        event.type
    )
