"""Handles: what a task's call gives while a flow is drawn, in the place of a value that does not exist yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from millstream.errors import HandleUsedAsValueError

if TYPE_CHECKING:
    from millstream.authoring.draw import Drawing


class Handle:
    """A node of the graph that is being drawn, standing for its future result.

    Pass it to other tasks, pick a part of it (`rows["total"]`), order it (`a >> b`). It is no value: it cannot be
    tested, iterated, compared or counted with.

    Example:
        >>> from millstream import flow, task
        >>> @task
        ... def load() -> dict: return {"total": 3}
        >>> @task
        ... def show(total: int) -> str: return f"{total} rows"
        >>> @flow
        ... def report():
        ...     return show(load()["total"])
    """

    __slots__ = ("_drawing", "_index", "_path", "_when")

    def __init__(self, drawing: Drawing, index: int, path: tuple[str | int, ...] = (), when: str | None = None) -> None:
        self._drawing = drawing
        self._index = index
        self._path = path
        self._when = when

    @property
    def id(self) -> str:
        """The node's id in its graph."""
        return self._drawing.nodes[self._index].id if self._index >= 0 else "the loop's state"

    def way(self, label: str) -> Handle:
        """Return a handle of one way of a router: what is ordered behind it starts only if it is chosen."""
        return Handle(self._drawing, self._index, self._path, label)

    def __getitem__(self, key: str | int) -> Handle:
        """Return a handle of a part of the result: a key, a position, or an attribute's name."""
        if not isinstance(key, str | int):
            self._refuse(f"picked from with {key!r}", "a string or a number")
        return Handle(self._drawing, self._index, (*self._path, key))

    def __rshift__(self, other: Any) -> Any:
        """`a >> b`: b starts after a."""
        for after in _flatten(other):
            self._drawing.order(self, after)
        return other

    def __rrshift__(self, other: Iterable[Any]) -> Handle:
        """`[a, b] >> c`: c starts after both."""
        for before in _flatten(other):
            self._drawing.order(before, self)
        return self

    def __lshift__(self, other: Any) -> Any:
        """`b << a`: b starts after a."""
        for before in _flatten(other):
            self._drawing.order(before, self)
        return other

    def __rlshift__(self, other: Iterable[Any]) -> Handle:
        """`[b, c] << a`: both start after a."""
        for after in _flatten(other):
            self._drawing.order(self, after)
        return self

    def __repr__(self) -> str:
        """Return a form that names the node."""
        return f"<handle of {self.id}{''.join(f'[{key!r}]' for key in self._path)}>"

    # ------------------------------------------------------------------------------- uses that need the value
    def _refuse(self, use: str, instead: str) -> NoReturn:
        raise HandleUsedAsValueError(
            f"the result of {self.id} is {use}, but it does not exist while the flow is being drawn; use {instead}"
        )

    def __bool__(self) -> NoReturn:  # noqa: PLE0304  it refuses
        """Refuse `if handle`."""
        self._refuse("tested (if, and, or, not)", "branch(...), or an `async def` flow")

    def __iter__(self) -> NoReturn:
        """Refuse `for x in handle`."""
        self._refuse("iterated over", "task.map(...), or an `async def` flow")

    def __len__(self) -> NoReturn:  # noqa: PLE0303  it refuses
        """Refuse `len(handle)`."""
        self._refuse("counted", "a task that counts, or task.map(...)")

    def __contains__(self, _item: object) -> NoReturn:
        """Refuse `x in handle`."""
        self._refuse("searched (in)", "branch(...) on a task's result, or an `async def` flow")

    def _refuse_comparison(self, _other: object) -> NoReturn:
        self._refuse("compared", "branch(...), or loop(...) with `until`")

    __lt__ = __le__ = __gt__ = __ge__ = _refuse_comparison
    __eq__ = _refuse_comparison
    __ne__ = _refuse_comparison
    __hash__ = object.__hash__

    def _refuse_arithmetic(self, *_others: object) -> NoReturn:
        self._refuse("calculated with", "a task that calculates")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse_arithmetic
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _refuse_arithmetic
    __matmul__ = __rmatmul__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse_arithmetic

    def _refuse_conversion(self, *_format: object) -> NoReturn:
        self._refuse("turned into text or a number", "a task that does it")

    __int__ = __float__ = __index__ = __complex__ = __format__ = __str__ = _refuse_conversion

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse attributes of the value."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"asked for .{name}", f"[{name!r}] to pick a part of it, or a task")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Refuse `handle(...)`."""
        self._refuse("called", "a task that calls it")

    def __await__(self) -> NoReturn:
        """Refuse `await handle`."""
        self._refuse("awaited", "an `async def` flow, where tasks can be awaited")


def _flatten(handles: Any) -> list[Handle]:
    if isinstance(handles, Handle):
        return [handles]
    if isinstance(handles, list | tuple):
        return [handle for some in handles for handle in _flatten(some)]
    raise TypeError(f"'>>' orders tasks' handles, not a {type(handles).__name__}")
