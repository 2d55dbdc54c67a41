"""A graph made ready for planning: successor lists and counters, worked out once per digest.

On the path where all goes well each edge costs one decrement of one counter. So successors are split here, once: `fast`
ones (rule `all_success`, edge without a label) only count down; all others (`slow`) take votes.
"""

from __future__ import annotations

from millstream.model.graph import Graph, digest, predecessors, results_in, takes_failure


class Shape:
    """A compiled graph; immutable after it is made.

    Attributes:
        graph: What was compiled.
        digest: Its digest.
        size: How many nodes it has.
        index_of: Each node's index by its id.
        indegree: Per node, how many predecessors it waits for (0 for the rule `always`).
        fast: Per node, the successors that only count it down.
        slow: Per node, the other successors, each with the label of the edge.
        before: Per node, the predecessors that it takes votes from, each with the label of the edge.
        roots: Nodes that start at once.
        deciding: Nodes whose failure fails the whole graph: those that no other follows, leaving aside errbacks (which
            make nothing good), and those it returns.
    """

    __slots__ = ("before", "deciding", "digest", "fast", "graph", "indegree", "index_of", "roots", "size", "slow")

    def __init__(self, graph: Graph) -> None:
        """Compile a graph that is valid (see `graph.validate`)."""
        nodes = graph.nodes
        self.graph = graph
        self.digest = digest(graph)
        self.size = len(nodes)
        self.index_of = {node.id: index for index, node in enumerate(nodes)}
        self.before = [() if node.join == "always" else tuple(predecessors(node).items()) for node in nodes]
        self.indegree = [len(before) for before in self.before]
        fast: list[list[int]] = [[] for _ in nodes]
        slow: list[list[tuple[int, str | None]]] = [[] for _ in nodes]
        for target, node in enumerate(nodes):
            for source, label in self.before[target]:
                if node.join == "all_success" and label is None:
                    fast[source].append(target)
                else:
                    slow[source].append((target, label))
        self.fast = [tuple(targets) for targets in fast]
        self.slow = [tuple(targets) for targets in slow]
        self.roots = tuple(i for i, waits in enumerate(self.indegree) if not waits)
        returned = set(results_in(graph.result))
        errbacks = {i for i, node in enumerate(nodes) if takes_failure(node)}
        self.deciding = tuple(
            i
            for i in range(self.size)
            if i in returned or errbacks.issuperset((*fast[i], *(target for target, _ in slow[i])))
        )
