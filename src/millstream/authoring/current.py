"""The default app: the one stated exception to "no module-level state".

One app per process, keyed by pid (a forked child gets its own), made on first use by the factory that the package sets.
So `flow.run()` needs no ceremony. A context variable may put another app in its place, for tests and integrations.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol


class App(Protocol):
    """What definitions need of an app."""

    def run(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a flow or task and return its result; blocks."""


_lock = threading.Lock()
_apps: dict[int, App] = {}
_factory: list[Callable[[], App]] = []
_override: ContextVar[App | None] = ContextVar("millstream_app", default=None)


def set_factory(make: Callable[[], App]) -> None:
    """Say how the default app is made."""
    _factory[:] = [make]


def app() -> App:
    """Return the app in force here: the override of this context, else the process's default app."""
    here = _override.get()
    if here is not None:
        return here
    with _lock:
        known = _apps.get(os.getpid())
        if known is None:
            known = _apps[os.getpid()] = _factory[0]()
        return known


@contextmanager
def use(other: App) -> Iterator[App]:
    """Put an app in the default one's place within a block."""
    token = _override.set(other)
    try:
        yield other
    finally:
        _override.reset(token)
