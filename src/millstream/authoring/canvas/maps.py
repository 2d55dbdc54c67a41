"""Maps: one task that runs for each of many items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from millstream.authoring.canvas.primitives import finish, group
from millstream.authoring.canvas.signature import Signature, to_signature
from millstream.errors import DefinitionError


class _Mapped(Signature):
    """A task that runs once for each item; it takes no further arguments."""

    _task_name = ""
    _stars = ""

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        """Take the task and the items."""
        bound = {"task": to_signature(task), "it": _items(it)}
        super().__init__(self._task_name, (), bound, immutable=True, **options)
        self["subtask_type"] = type(self).__name__

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return it from its dict."""
        return finish(cls(data["kwargs"]["task"], data["kwargs"]["it"]), data)

    @property
    def each(self) -> Signature:
        """The task that runs for each item."""
        return self.kwargs["task"]  # type: ignore[no-any-return]

    @property
    def it(self) -> Sequence[Any]:
        """The items."""
        return self.kwargs["it"]  # type: ignore[no-any-return]

    def children(self) -> Sequence[Signature]:
        """Return the task that runs for each item."""
        return (self.each,)

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Call the task itself here, once for each item."""
        return [self.each(*(item if self._stars else (item,))) for item in self.it]

    def __repr__(self) -> str:
        """Return it as a list comprehension would be written."""
        shown = repr(self.it)
        shown = f"{shown[:97]}..." if len(shown) > 100 else shown  # noqa: PLR2004  it stands in a line of text
        return f"[{self.each.task}({self._stars}x) for x in {shown}]"


@Signature.register_type("celery.map")
@Signature.register_type("xmap")
class xmap(_Mapped):  # noqa: N801  Celery's name
    """A task that runs once for each item; its result is the list of results: `add.map([1, 2])`."""

    _task_name = "celery.map"


@Signature.register_type("celery.starmap")
@Signature.register_type("xstarmap")
class xstarmap(_Mapped):  # noqa: N801  Celery's name
    """A task that runs once for each tuple of arguments: `add.starmap([(1, 1), (2, 2)])`."""

    _task_name = "celery.starmap"
    _stars = "*"


@Signature.register_type("celery.chunks")
@Signature.register_type("chunks")
class chunks(_Mapped):  # noqa: N801  Celery's name
    """A task that runs for each tuple of arguments, in parts of `n` tuples; its result is a list of lists.

    Example:
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.chunks(zip(range(4), range(4)), 2).group()
        group([[add(*x) for x in [(0, 0), (1, 1)]], [add(*x) for x in [(2, 2), (3, 3)]]])
    """

    _task_name = "celery.chunks"
    _stars = "*"

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        """Take the task, the tuples, and how many of them are a part."""
        if n < 1:
            raise DefinitionError(f"chunks need 1 or more items each, not {n}")
        super().__init__(task, it, **options)
        self.kwargs["n"] = n

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return it from its dict."""
        bound = data["kwargs"]
        return finish(cls(bound["task"], bound["it"], bound["n"]), data)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Submit it."""
        return self.apply_async(args, **options)

    def group(self) -> group:
        """Return the parts as a group of `xstarmap`."""
        size = self.kwargs["n"]
        parts = [self.it[start : start + size] for start in range(0, len(self.it), size)]
        return group([xstarmap(self.each, part) for part in parts], **self.options)


def _items(it: Iterable[Any]) -> Sequence[Any]:
    return it if isinstance(it, list | tuple | range) else list(it)
