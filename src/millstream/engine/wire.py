"""What the engine and its pool processes say to each other: frames over one local socket.

A frame is four bytes of length, then a pickle. Both ends are the same program on the same machine, started by each
other over an inherited socket, so pickle is safe here and carries whatever a task takes and returns.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, NamedTuple

from millstream.engine.request import Request
from millstream.model.failure import Failure

HEAD = struct.Struct("!I")


class Setup(NamedTuple):
    """First frame to a process: where it finds code.

    Attributes:
        path: `sys.path` of the engine.
        main: File of the engine's `__main__`, for tasks defined there.
    """

    path: list[str]
    main: str | None


class Order(NamedTuple):
    """To a process: run this.

    Attributes:
        module: Where the function is defined.
        qualname: Its name there.
        calls: Arguments by position and by name, once per call; several run one after the other. On the way they are
            a pickle of their own: where they cannot be read, the order still says whose they are.
        is_bound: Whether it is a bound task's, which takes more than the function itself.
        is_chunk: Whether the answer is the list of all values, or the one value.
        request: The attempt as its task sees it, but for the arguments.
        deadline: When its time-out is over.
        soft_timeout: Seconds until `SoftTimeLimitExceeded` is raised inside the function.
    """

    module: str
    qualname: str
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] | bytes
    is_bound: bool
    is_chunk: bool
    request: Request
    deadline: float | None
    soft_timeout: float | None


class Said(NamedTuple):
    """From a process: the task put an event into the log while it runs."""

    kind: str
    data: Any
    is_durable: bool = False


class Returned(NamedTuple):
    """From a process: the task returned."""

    value: Any


class Raised(NamedTuple):
    """From a process: the task raised; `cancels` where a coroutine cancelled what it runs in."""

    failure: Failure
    cancels: bool = False


def pack(frame: Any) -> bytes:
    """Return a frame's bytes.

    Raises:
        Exception: Whatever pickling the values raises.
    """
    body = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(body)) + body


def unpack(body: bytes) -> Any:
    """Return the frame that `body` holds."""
    return pickle.loads(body)  # noqa: S301  see the module's docstring
