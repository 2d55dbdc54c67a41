"""The graphs that every system runs: as plain data, so that each builds them in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A graph of nodes that do nothing but return 1, or wait.

    Attributes:
        name: What `--only` calls it.
        title: What the report calls it.
        before: For each node, the nodes whose results it takes; these stand before it.
        jobs: How many of this graph run at once.
        wait_seconds: How long a node waits before it returns.
        is_plain: Whether the nodes are plain functions instead of coroutine functions.
    """

    name: str
    title: str
    before: Sequence[Sequence[int]]
    jobs: int = 1
    wait_seconds: float = 0.0
    is_plain: bool = False

    @property
    def nodes(self) -> int:
        return self.jobs * len(self.before)

    @property
    def after(self) -> list[list[int]]:
        """For each node, those that take its result."""
        found: list[list[int]] = [[] for _ in self.before]
        for node, sources in enumerate(self.before):
            for source in sources:
                found[source].append(node)
        return found

    @property
    def leaves(self) -> list[int]:
        return [node for node, after in enumerate(self.after) if not after]


def chain(length: int) -> list[list[int]]:
    return [[node - 1] if node else [] for node in range(length)]


def fan(width: int) -> list[list[int]]:
    middle = range(1, width + 1)
    return [[], *([0] for _ in middle), list(middle)]


def layers(width: int, depth: int) -> list[list[int]]:
    return [list(range((row - 1) * width, row * width)) if row else [] for row in range(depth) for _ in range(width)]


SHAPES = (
    Shape("chain", "chain of 100", chain(100)),
    Shape("fan", "fan-out 100 + join", fan(100)),
    Shape("layers", "10 x 10 layers, each node after all of the layer before", layers(10, 10)),
    Shape("jobs", "50 chains of 10, all at once", chain(10), jobs=50),
    Shape("plain", "fan-out 100 + join, plain functions", fan(100), is_plain=True),
    Shape("waits", "1,000 nodes that wait 0.1 s each", [[] for _ in range(1000)], wait_seconds=0.1),
)
"""What is run in memory."""

DURABLE_SHAPES = SHAPES[:4]
"""What is run durable, beside peers that are."""

CROWDS = (
    SHAPES[0],
    Shape("16-jobs", "16 chains of 100, all at once", chain(100), jobs=16),
    Shape("256-jobs", "256 chains of 100, all at once", chain(100), jobs=256),
)
"""What shows how durable jobs share commits."""

CANVASES = (
    Shape("canvas-chain", "chain of 100", chain(100)),
    Shape("canvas-group", "group of 1,000", [[] for _ in range(1000)]),
    Shape("canvas-chord", "chord of 1,000", [*([] for _ in range(1000)), list(range(1000))]),
    Shape("canvas-chords", "100 chords of 10, all at once", [*([] for _ in range(10)), list(range(10))], jobs=100),
)
"""What is called as a canvas; each task takes what came before it as one argument."""

CHAINS = Shape("canvas-chains", "50 chains of 10, all at once", chain(10), jobs=50)
"""What is called as a canvas only where workers run it."""

ONE = Shape("one", "one node", [[]])

BY_NAME = {shape.name: shape for shape in (*SHAPES, *CROWDS, *CANVASES, CHAINS, ONE)}
