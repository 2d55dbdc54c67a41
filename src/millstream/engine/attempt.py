"""One attempt of a node, as `ctx` sees it, and the key under which its result is cached."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.engine.asked import request_of
from millstream.engine.context import SystemChance
from millstream.engine.program import Work
from millstream.engine.request import Request
from millstream.engine.scope import Call
from millstream.engine.signatures import signature_of
from millstream.errors import NotSerializableError
from millstream.graph.frame import Frame
from millstream.model.event import Draft
from millstream.model.policy import Policy, class_name

if TYPE_CHECKING:
    from millstream.engine.run import Run


class Attempt(SystemChance):
    """An attempt that runs on the loop of this process (see `elsewhere` for threads)."""

    __slots__ = ("_deadline", "_request", "attempt", "frame", "index", "run")

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

    @property
    def request(self) -> Request:
        """The attempt as its task sees it."""
        try:
            return self._request
        except AttributeError:
            scope = self.frame.content
            call = None if getattr(scope, "is_chunked", False) else scope.calls(self.index)[0]
            self._request: Request = request_of(self.run, self.frame, self.index, self.attempt, call)
            return self._request

    def emit(self, kind: str, data: Any) -> None:
        """Put a volatile event into the job's log; from any thread."""
        self._put((False, kind, self.now(), self.node, data))

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Put a durable event into the job's log; from any thread."""
        self._put((True, kind, self.now(), self.node, self.run.seal(data)))

    def _put(self, draft: Draft) -> None:
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


def cache_key(work: Work, policy: Policy, calls: list[Call]) -> str:
    """Return the key under which a node's result is cached; another version of the task has other keys.

    Raises:
        NotSerializableError: The arguments cannot be pickled, and the policy gives no `idempotency_key`.
        KeyError: The policy's `idempotency_key` names an argument that there is not.
    """
    bound = [_by_name(work.fn, args, kwargs) for args, kwargs in calls]
    if policy.idempotency_key is not None:
        keys = [policy.idempotency_key.format(**arguments) for arguments in bound]
        return f"{work.name}:{work.version}:key:{msgspec.json.encode(keys).decode()}"
    try:
        written = msgspec.json.encode(_tagged(bound), enc_hook=lambda value: pickle.dumps(value).hex())
    except Exception as error:
        message = f"{work.name} has cache_ttl, but its arguments make no key ({error}); give it an idempotency_key"
        raise NotSerializableError(message) from error
    return f"{work.name}:{work.version}:args:{hashlib.sha256(written).hexdigest()}"


def _tagged(value: Any) -> Any:
    """Return a value with the types in it told apart, as JSON does not, and dicts in one order."""
    if isinstance(value, dict):
        return "dict", sorted((repr(key), _tagged(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value).__name__, [_tagged(item) for item in value]
    return class_name(type(value)), value


def _by_name(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = signature_of(fn).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
