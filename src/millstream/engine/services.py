"""What a run is given by whoever owns it: clock, pools, cache, and where to say what happened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from millstream.clock import Clock
from millstream.engine.processes import ProcessPool
from millstream.engine.program import Program, Work
from millstream.engine.threads import ThreadPool
from millstream.graph.shape import Shape
from millstream.model.event import Draft
from millstream.model.policy import DEFAULT_QUEUE


class Sink(Protocol):
    """Takes what happens in a run."""

    def put(self, draft: Draft) -> None:
        """Take an event. Must be called on the loop, and must not block."""

    def flush(self) -> None:
        """Record what was taken so far at once."""

    def end(self) -> None:
        """Take note that nothing follows but the end of the run, with which the rest is recorded."""

    def seal(self, data: dict[str, Any]) -> Any:
        """Return data with users' values in the form in which it can be recorded.

        Raises:
            NotSerializableError: A value in it cannot be written down.
            OutputTooLargeError: It is too large.
        """

    def hold(self, places: Sequence[Any], resume: Callable[[Sequence[Any]], None]) -> bool:
        """Call `resume` with `places` once all that was put so far is recorded.

        Those of one record are resumed together; returns whether these are the first of theirs.
        """


class Cache(Protocol):
    """Results by key, for as long as their `cache_ttl` says."""

    def get(self, key: str, now: float) -> tuple[bool, Any]:
        """Return whether there is a result for the key at that time, and the result."""

    def put(self, key: str, value: Any, expires_at: float) -> None:
        """Keep a result until a time."""


class Code(Protocol):
    """The tasks and flows that this process knows, by the names under which records speak of them."""

    def find(self, name: str) -> Work:
        """Return a task or flow.

        Raises:
            UnknownNameError: It is not known here.
        """

    def learn(self, works: Mapping[str, Work]) -> None:
        """Take in what a graph that was drawn here consists of."""


class Programs:
    """Programs by the digest of their graph, so that jobs of one shape share one."""

    def __init__(self, limit: int = 1000) -> None:
        """Keep at most `limit` programs, the last ones made."""
        self._limit = limit
        self._programs: dict[str, Program] = {}

    def get(self, shape: Shape, works: Mapping[str, Work]) -> Program:
        """Return the program of a graph with this code.

        Raises:
            UnknownNameError: A node names a task that is not among `works`.
            DefinitionError: A task cannot run where its policy wants it.
        """
        known = self._programs.get(shape.digest)
        if known is not None and all(works.get(name) is work for name, work in known.works.items()):
            return known
        program = Program(shape, works)
        if len(self._programs) >= self._limit:
            self._programs.pop(next(iter(self._programs)))
        self._programs[shape.digest] = program
        return program


_WEIGHT = 0.2


@dataclass(slots=True)
class HandOut:
    """What a run goes by that may hand nodes out, for other processes to execute them.

    Attributes:
        queues: The queues whose segments this process executes, `None` among them for the default one; `None`: all.
        default_queue: The name of the default queue.
        members: How many processes of the ledger execute and are alive; kept up to date by a duty.
        costs: Per task, a moving average of the seconds that a plain function of it takes.
    """

    queues: Collection[str | None] | None = None
    default_queue: str = DEFAULT_QUEUE
    members: int = 1
    costs: dict[str, float] = field(default_factory=dict)

    def note(self, task: str, seconds: float) -> None:
        """Take note of what one call of a task has cost; from any thread."""
        known = self.costs.get(task)
        self.costs[task] = seconds if known is None else known + _WEIGHT * (seconds - known)

    def cost(self, task: str) -> float | None:
        """Return what a call of a task costs, in seconds; `None` where none has ended yet."""
        return self.costs.get(task)

    def queue(self, name: str) -> str | None:
        """Return a queue as the ledger knows it: `None` for the default one."""
        return None if name in (DEFAULT_QUEUE, self.default_queue) else name

    def takes(self, queue: str | None) -> bool:
        """Whether this process executes segments of a queue (`None`: the default one)."""
        return self.queues is None or queue in self.queues


@dataclass(frozen=True, slots=True)
class Services:
    """What every run of one event loop shares.

    Attributes:
        clock: The time.
        threads: For plain functions.
        processes: For CPU-bound functions.
        cache: For tasks with `cache_ttl`.
        programs: Compiled graphs with their code.
        code: The tasks and flows behind the names in recorded graphs.
        linger: Seconds that a conducting flow stays when all that it awaits are waits.
        max_crashes: Processes that a node may kill before it fails as poison.
        is_eager: Whether jobs run in place of being handed in, as `request.is_eager` tells their tasks.
        hand_out: By what nodes are handed out; `None` where all of a job runs in one process.
    """

    clock: Clock
    threads: ThreadPool
    processes: ProcessPool
    cache: Cache
    programs: Programs
    code: Code
    linger: float = 30.0
    max_crashes: int = 3
    is_eager: bool = False
    hand_out: HandOut | None = None
