"""Calls of what has no name: any callable with any arguments, to be run in this process and to end with it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Literal

from millstream.authoring.draw import Drawing, Drawn, NodeOptions
from millstream.authoring.task import Task
from millstream.errors import DefinitionError


class LocalCall:
    """A callable with its arguments, passed to its job as one value, which nothing looks into or copies.

    Args:
        fn: What to call.
        args: Arguments by position.
        kwargs: Arguments by name.

    Raises:
        DefinitionError: It cannot be called.
    """

    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not callable(fn):
            raise DefinitionError(f"a function, a task, a flow or a signature is needed here, not {fn!r}")
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    @property
    def task(self) -> LocalTask:
        """The task that makes the call."""
        named = self.fn
        while isinstance(named, partial):
            named = named.func
        if not hasattr(named, "__qualname__"):
            named = type(named)
        is_coroutine = inspect.iscoroutinefunction(self.fn) or inspect.iscoroutinefunction(type(self.fn).__call__)
        return _task(getattr(named, "__module__", None) or "builtins", named.__qualname__, is_coroutine=is_coroutine)

    def __repr__(self) -> str:
        """Return a form that names the callable."""
        return f"<call of {self.fn!r}>"


class LocalTask(Task[..., Any]):
    """Makes calls of callables of one name. Its own name ends with `()`, so that it is nobody else's.

    It keeps nothing of the callables: an app that has run them does not hold them.
    """

    durability: Literal["off"] = "off"

    def draw(self, inputs: dict[str, Any]) -> Drawn:
        """Return the graph of one node, which is named as the callable is."""
        with Drawing().opened() as canvas:
            args, kwargs = self.inputs.split(inputs)
            node = canvas.add_work("task", self, args, kwargs, NodeOptions(id=_node_id(self.name)))
            return canvas.finish(node, self._shapes)


async def _await(call: LocalCall) -> Any:
    return await call.fn(*call.args, **call.kwargs)


def _call(call: LocalCall) -> Any:
    value = call.fn(*call.args, **call.kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value  # of a lambda: it runs in this thread


@lru_cache(maxsize=1000)
def _task(module: str, qualname: str, *, is_coroutine: bool) -> LocalTask:
    return LocalTask(_await if is_coroutine else _call, name=f"{module}.{qualname}()")


def _node_id(name: str) -> str:
    short = name.removesuffix("()").rpartition(".")[2]
    return "".join(c for c in short if (c.isalnum() and c.isascii()) or c == "_") or "call"
