"""The tasks that canvases are made of, for either library: they take whatever comes, and say what they did by notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Tasks = Mapping[str, Any]
Note = Callable[[list[Any]], None]
"""Keeps what a task did, beside its result; called from any process or thread."""


def define(task: Callable[..., Any], group: Callable[..., Any], note: Note) -> Tasks:
    """Return the tasks by name, made by `task`, which is either library's decorator, and with its `group`."""
    found: dict[str, Any] = {}
    for function in _PLAIN + _noting(note):
        found[function.__name__] = task(name=function.__name__)(function)
    for function in _bound(found, group):
        found[function.__name__] = task(name=function.__name__, bind=True)(function)
    return found


def weigh(value: Any) -> int:
    """Return the sum of all numbers in a value, however deep: so that any result suits any task."""
    match value:
        case int():
            return value
        case list() | tuple():
            return sum(map(weigh, value))
        case dict():
            return sum(map(weigh, value.values()))
    return 0


def add(x: Any, y: Any) -> int:
    return weigh(x) + weigh(y)


def double(x: Any) -> int:
    return 2 * weigh(x)


def identity(x: Any) -> Any:
    return x


def total(xs: Any) -> int:
    return weigh(xs)


def pair(x: Any, y: Any = None) -> list[Any]:
    return [x, y]


def tally(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), dict(sorted(kwargs.items()))]


def scaled(x: Any, *, by: int = 1, plus: int = 0) -> int:
    return weigh(x) * by + plus


def constant() -> int:
    return 7


def nothing(*_: Any) -> None:
    return None


def several(x: Any) -> list[int]:
    return [weigh(x) + number for number in range(3)]


def fail(*_: Any) -> None:
    raise ValueError("as told")


def fail_otherwise(*_: Any) -> None:
    raise KeyError("as told")


_PLAIN = (add, double, identity, total, pair, tally, scaled, constant, nothing, several, fail, fail_otherwise)


def _noting(note: Note) -> tuple[Callable[..., Any], ...]:
    """Return the functions that leave a note: as callbacks, as errbacks of either kind, and in between."""

    def noted(x: Any, label: str) -> Any:
        note([label, x])
        return x

    def noted_only(label: str) -> str:
        note([label])
        return label

    def on_error(request: Any, exc: Any, traceback: Any, label: str = "") -> None:
        note([label, request.task, type(exc).__name__, isinstance(traceback, str)])

    def on_error_id(task_id: str, *, label: str = "") -> None:
        note([label, isinstance(task_id, str)])

    return (noted, noted_only, on_error, on_error_id)


def _bound(tasks: Tasks, group: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """Return the functions that get their task as `self`."""

    def retried(self: Any, x: Any) -> list[Any]:
        if self.request.retries < 2:
            raise self.retry(countdown=0, max_retries=3)
        return [x, self.request.retries]

    def never(self: Any, _x: Any) -> None:
        raise self.retry(exc=ValueError("as told"), countdown=0, max_retries=1)

    def replaced(self: Any, x: Any) -> None:
        raise self.replace(tasks["add"].s(x, 100))

    def replaced_by_chain(self: Any, x: Any) -> None:
        raise self.replace(tasks["add"].s(x, 100) | tasks["double"].s())

    def replaced_by_group(self: Any, x: Any) -> None:
        raise self.replace(group([tasks["add"].s(x, number) for number in range(2)]))

    def grows(self: Any, x: Any) -> Any:
        self.add_to_chord(tasks["add"].s(x, 1000))
        return x

    return (retried, never, replaced, replaced_by_chain, replaced_by_group, grows)
