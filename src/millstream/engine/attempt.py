"""One attempt of a node, as `ctx` sees it, and the key under which its result is cached."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.engine.context import SystemChance
from millstream.engine.scope import Call
from millstream.errors import NotSerializableError
from millstream.graph.frame import Frame
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.engine.run import Run


class Attempt(SystemChance):
    """An attempt that runs on the loop of this process (see `elsewhere` for threads)."""

    __slots__ = ("_deadline", "attempt", "frame", "index", "run")

    def __init__(self, run: Run, frame: Frame, index: int, attempt: int, deadline: float | None = None) -> None:
        """Take the place in the plan, and which attempt it is."""
        self.run = run
        self.frame = frame
        self.index = index
        self.attempt = attempt
        self._deadline = deadline

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self.run.job_id

    @property
    def node(self) -> str:
        """Path of the node."""
        return self.frame.name(self.index)

    @property
    def deadline(self) -> float | None:
        """When the time-out is over."""
        return self._deadline

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self.run.is_cancelled

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self.run.services.clock.now()

    def emit(self, kind: str, data: Any) -> None:
        """Put a volatile event into the job's log; from any thread."""
        draft = (False, kind, self.run.services.clock.now(), self.node, data)
        if threading.get_ident() == self.run.thread:
            self.run.put(draft)
        else:
            self.run.loop.call_soon_threadsafe(self.run.put, draft)


def run_calls(fn: Callable[..., Any], calls: list[Call], is_chunk: bool) -> Any:  # noqa: FBT001  passed by position
    """Call a plain function in the present thread; a coroutine function gets an event loop of its own."""
    values = [_run_call(fn, args, kwargs) for args, kwargs in calls]
    return values if is_chunk else values[0]


def _run_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = fn(*args, **kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def cache_key(name: str, fn: Callable[..., Any], policy: Policy, calls: list[Call]) -> str:
    """Return the key under which a node's result is cached.

    Raises:
        NotSerializableError: The arguments have no JSON form, and the policy gives no `idempotency_key`.
        KeyError: The policy's `idempotency_key` names an argument that there is not.
    """
    if policy.idempotency_key is not None:
        keys = [policy.idempotency_key.format(**_by_name(fn, args, kwargs)) for args, kwargs in calls]
        return f"{name}:key:{msgspec.json.encode(keys).decode()}"
    try:
        written = msgspec.json.encode(calls, order="sorted")
    except (TypeError, msgspec.MsgspecError) as error:
        message = f"{name} has cache_ttl, but its arguments make no key ({error}); give it an idempotency_key"
        raise NotSerializableError(message) from error
    return f"{name}:args:{hashlib.sha256(written).hexdigest()}"


def _by_name(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
