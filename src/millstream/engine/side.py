"""Side segments: nodes that the job's main run handed out, each on its own, under the paths that they have in the job.

The main run records of each node all that is needed to run it (`written`), and whoever executes the side segment makes
a `Given` of that. A node that turns out to be more than one attempt after the other is none of the side segment's: what
it gave in place of a value, or that a decision is due, is recorded, and the main run goes on from there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from millstream.engine.program import Program, Work
from millstream.engine.request import Request
from millstream.engine.scope import Call
from millstream.graph.shape import Shape
from millstream.model.graph import Graph, Node
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.engine.past import Past


class Given(msgspec.Struct, frozen=True):
    """A node that was handed out.

    Attributes:
        path: Its path in the job.
        task: The task's registered name.
        calls: The arguments; several where a map's items share the attempt.
        is_chunk: Whether they do.
        attempt: Which attempt is to be made, from 1.
        policy: How it is run.
        request: The attempt as its task sees it, but for the arguments.
    """

    path: str
    task: str
    calls: list[Call]
    is_chunk: bool
    attempt: int
    policy: Policy
    request: Request

    def written(self) -> dict[str, Any]:
        """Return it as data of an event."""
        told = {key: value for key, value in msgspec.structs.asdict(self.request).items() if value not in (None, {})}
        return {
            "path": self.path,
            "task": self.task,
            "calls": self.calls,
            "is_chunk": self.is_chunk,
            "attempt": self.attempt,
            "policy": msgspec.json.encode(self.policy),
            "request": told,
        }

    @classmethod
    def read(cls, data: dict[str, Any]) -> Given:
        """Return what an event says of a node."""
        policy, request = _policy.decode(data["policy"]), Request(**data["request"])
        return cls(**{**data, "policy": policy, "request": request})


_policy = msgspec.json.Decoder(Policy)


class SideScope:
    """What a side segment's frame consists of, in the form that the runner reads.

    Attributes:
        program: The nodes' code.
        values: What each node returned.
        is_chunked: Whether a place stands for a list of items; that is so for all, or for none.
    """

    __slots__ = ("_given", "is_chunked", "program", "values")

    def __init__(self, given: Sequence[Given], find: Callable[[str], Work]) -> None:
        """Put code to the nodes.

        Raises:
            UnknownNameError: A task is not known here.
        """
        works = {node.task: find(node.task) for node in given}
        nodes = (Node(id=node.path, task=node.task, policy=_here(node.policy)) for node in given)
        self._given = given
        self.program = Program(Shape(Graph(nodes=tuple(nodes))), works)
        self.program.sources = [None] * len(given)
        self.values: list[Any] = [None] * len(given)
        self.is_chunked = any(node.is_chunk for node in given)

    def work(self, index: int) -> Work:
        """Return the task that stands at a place."""
        return self.program.work(self._given[index].task)

    def policy(self, index: int) -> Policy | None:
        """Return a node's policy."""
        return self.program.policies[index]

    def calls(self, index: int) -> list[Call]:
        """Return the arguments that the node was handed out with."""
        return self._given[index].calls

    def result(self) -> None:
        """Return what the segment gives as a whole: each node gives its own."""

    def paths(self) -> Iterator[str]:
        """Yield the paths of the nodes."""
        return (node.path for node in self._given)

    def begun(self) -> Iterator[tuple[int, int]]:
        """Yield the places at which another than the first attempt is to be made, each with its number."""
        return ((index, node.attempt) for index, node in enumerate(self._given) if node.attempt > 1)

    def request(self, index: int, attempt: int, call: Call | None, *, is_redelivered: bool) -> Request:
        """Return an attempt as its task sees it."""
        known = self._given[index].request
        return replace(
            known,
            retries=attempt - 1,
            args=None if call is None else call[0],
            kwargs=None if call is None else call[1],
            delivery_info={**known.delivery_info, "redelivered": is_redelivered},
            hostname=socket.gethostname(),
        )


def _here(policy: Policy) -> Policy:
    """Return a policy as it is meant for whoever executes the side segment, who is the worker that it speaks of."""
    return replace(policy, run_in="auto") if policy.run_in == "worker" else policy


def left_to_do(nodes: Iterable[dict[str, Any]], past: Past | None) -> list[Given]:
    """Return the nodes of a side segment that are still its own, given what the job's record says of them."""
    given = (Given.read(data) for data in nodes)
    return [node for node in given if past is None or not past.is_settled(node.path)]
