"""The values of one frame: what its nodes returned and what was bound, and the arguments made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millstream.engine.program import Mode, Program, Work, base_mode, guard
from millstream.model.graph import Arg, Failed, Keyed, Map, Node, Packed, Result, Slot, pick
from millstream.model.policy import Policy
from millstream.model.value import encode

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments by position, and by name."""


class Scope:
    """Values of a graph's frame.

    Attributes:
        program: The graph's code.
        values: The results of the nodes, then the bindings; `None` where there is no result.
        failed: Gives what an argument says of failed nodes; whoever opens the frame brings it where there are such.
    """

    __slots__ = ("failed", "program", "values")

    failed: Callable[[Failed], Any]

    def __init__(self, program: Program, bindings: Sequence[Any]) -> None:
        """Bind the slots."""
        self.program = program
        self.values: list[Any] = [None] * program.shape.size
        self.values.extend(bindings)

    def work(self, index: int) -> Work:
        """Return the task or flow that stands at a node."""
        return self.program.work(self.program.shape.graph.nodes[index].task)

    def policy(self, index: int) -> Policy | None:
        """Return a node's policy."""
        return self.program.policies[index]

    def calls(self, index: int) -> list[Call]:
        """Return the arguments of a node's one call."""
        node = self.program.shape.graph.nodes[index]
        args = tuple(self.resolve(arg) for arg in node.args)
        return [(args, {name: self.resolve(arg) for name, arg in node.kwargs})]

    def resolve(self, arg: Arg | None) -> Any:
        """Return the value that an argument stands for.

        Raises:
            LookupError: A result has nothing at the path that was asked for.
            Skip: It is of failed nodes, and none of them failed itself.
        """
        match arg:
            case Slot(index, path):
                return pick(self.values[self.program.shape.size + index], path)
            case Result(node, path):
                value = self.values[node]
                return pick(value, path) if path and value is not None else value
            case Packed(kind, items):
                parts = [self.resolve(item) for item in items]
                return parts if kind == "list" else tuple(parts)
            case Keyed(keys, items):
                return {key: self.resolve(item) for key, item in zip(keys, items, strict=True)}
            case Failed():
                return self.failed(arg)
        return None

    def result(self) -> Any:
        """Return what the graph gives as a whole."""
        return self.resolve(self.program.shape.graph.result)


class _Same:
    """A list in which every place holds the same."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getitem__(self, _index: int) -> Any:
        return self.value


class ItemProgram:
    """The code of a map's items, in the form that the runner reads: the same at every place."""

    __slots__ = ("fns", "guards", "modes", "sources")

    def __init__(self, mode: Mode, policy: Policy | None, work: Work) -> None:
        """Take what holds for every item."""
        self.modes = _Same(mode)
        self.guards = _Same(guard(policy, is_special=work.is_bound))
        self.fns = _Same(work.fn)
        self.sources = _Same(None)


class ItemScope:
    """Values of the items of a map; with `chunk`, each place stands for that many items.

    Attributes:
        program: The items' code.
        values: What each place returned.
        count: How many places there are.
    """

    __slots__ = (
        "_chunk",
        "_fixed",
        "_over",
        "_policy",
        "_product",
        "_sizes",
        "_total",
        "_work",
        "count",
        "program",
        "values",
    )

    def __init__(self, outer: Scope, index: int) -> None:
        """Take the arguments of a mapped node apart.

        Raises:
            TypeError: An argument to map over is not iterable.
            ValueError: The mapped arguments are of different lengths.
        """
        node = outer.program.shape.graph.nodes[index]
        spec = node.map or Map(over=())
        ((args, kwargs),) = outer.calls(index)
        self._fixed: Call = (args, kwargs)
        self._over = {key: _items(node, key, args[key] if isinstance(key, int) else kwargs[key]) for key in spec.over}
        self._product = spec.product
        self._chunk = spec.chunk
        self._sizes = [len(items) for items in self._over.values()]
        self._total = _total(node, self._over, self._sizes, spec)
        self.count = -(-self._total // self._chunk)
        self.values: list[Any] = [None] * self.count
        self._policy = outer.program.policies[index]
        self._work = outer.program.work(node.task)
        self.program = ItemProgram(base_mode(node, self._work, self._policy), self._policy, self._work)

    def work(self, _index: int) -> Work:
        """Return the task or flow that is mapped."""
        return self._work

    def policy(self, _index: int) -> Policy | None:
        """Return the items' policy."""
        return self._policy

    @property
    def is_chunked(self) -> bool:
        """Whether a place stands for a list of items."""
        return self._chunk > 1

    def calls(self, index: int) -> list[Call]:
        """Return the arguments of each item at a place."""
        first = index * self._chunk
        return [self._call(item) for item in range(first, min(first + self._chunk, self._total))]

    def result(self) -> list[Any]:
        """Return the items' results in order; `None` for an item that has none."""
        if not self.is_chunked:
            return self.values
        sizes = (len(self.calls(index)) for index in range(self.count))
        return [
            value
            for size, values in zip(sizes, self.values, strict=True)
            for value in (values if values is not None else [None] * size)
        ]

    def _call(self, item: int) -> Call:
        fixed_args, fixed_kwargs = self._fixed
        args, kwargs = list(fixed_args), dict(fixed_kwargs)
        for place, (key, items) in enumerate(self._over.items()):
            value = items[self._position(item, place)]
            if isinstance(key, int):
                args[key] = value
            else:
                kwargs[key] = value
        return tuple(args), kwargs

    def _position(self, item: int, place: int) -> int:
        """Return which of one argument's items an item takes; of a product, the last argument turns fastest."""
        if not self._product:
            return item
        for size in self._sizes[:place:-1]:
            item //= size
        return item % self._sizes[place]


def _items(node: Node, key: int | str, value: Any) -> Sequence[Any]:
    if isinstance(value, list | tuple | range):
        return value
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise TypeError(f"{node.id} maps over its argument {key!r}, which is a {type(value).__name__}, not a list")
    # A set has another order in another process, and the job may go on there.
    return sorted(value, key=encode) if isinstance(value, set | frozenset) else list(value)


def _total(node: Node, over: dict[int | str, Sequence[Any]], sizes: list[int], spec: Map) -> int:
    if spec.product:
        total = 1
        for size in sizes:
            total *= size
        return total
    if len(set(sizes)) > 1:
        lengths = ", ".join(f"{key!r}: {size}" for key, size in zip(over, sizes, strict=True))
        raise ValueError(
            f"{node.id} maps over arguments of different lengths ({lengths}); for all combinations say product"
        )
    return sizes[0]
