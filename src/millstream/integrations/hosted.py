"""Tasks that run inside of what a web framework needs around them, each run in one of its own."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from millstream.compat import Task
from millstream.compat._state import performing


class HostedTask(Task):
    """A task whose function is called inside of a block, wherever it runs: thread, event loop, process or caller."""

    @abstractmethod
    def block(self) -> AbstractContextManager[Any]:
        """Return what a plain function is called in."""

    @abstractmethod
    def async_block(self) -> AbstractAsyncContextManager[Any]:
        """Return what a coroutine function is called in."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in its block; in the body of a flow add a node."""
        if performing.get() is not self:
            return super().__call__(*args, **kwargs)  # which comes back here, unless it draws
        if inspect.iscoroutinefunction(self.run):
            return self._awaited(args, kwargs)
        with self.block():
            return self.run(*args, **kwargs)

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        async with self.async_block():
            return await self.run(*args, **kwargs)

    async def _called_async(self, *called: Any) -> Any:
        token = performing.set(self)
        try:
            return await super()._called_async(*called)
        finally:
            performing.reset(token)


def hosted(base: type[Task] | None, kind: type[HostedTask]) -> type[Task] | None:
    """Return a class of tasks as one whose tasks are hosted as those of `kind`; without a class none."""
    if base is None or issubclass(base, kind):
        return base
    return type(base.__name__, (kind, base), {"abstract": True, "__module__": base.__module__})
