"""What is recorded of an exception, and how it is raised again."""

from __future__ import annotations

import asyncio
import traceback
from types import FunctionType
from typing import Any

import msgspec

from millstream.errors import MaxRetriesExceededError, Reject, Retry, TaskError
from millstream.model.names import imported_module
from millstream.model.policy import class_name

_STEERING = (
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
)
_MOST_TEXT = 16_000
_MOST_TRACE = 64_000
_REQUEUE_SECONDS = 1.0
_KEPT_ARGUMENTS = (str, int, float, bool, type(None))


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt's exception, in a form that leaves the process.

    Attributes:
        type: Its class as `module:qualname`.
        message: `str()` of it.
        args: Its arguments, as long as they are plain values; else the message alone.
        traceback: Its formatted traceback.
        node: Path of the node that it failed, where there is one.
        ancestors: Its classes from its own upwards, as `retry_for` compares them.
        delay: The seconds that it asks to wait before another attempt (`Retry`, and `Reject` with `requeue`).
        limit: The most attempts after the first one, where it has a say in that: 0 says that none is left.
        expires: The seconds in which the attempt that it asks for must have started.
    """

    type: str
    message: str
    args: tuple[Any, ...] = ()
    traceback: str = ""
    node: str | None = None
    ancestors: tuple[str, ...] = ()
    delay: float | None = None
    limit: float | None = None
    expires: float | None = None

    @property
    def short_type(self) -> str:
        """The class's bare name, such as `ValueError`."""
        return self.type.rpartition(":")[2].rpartition(".")[2]

    def to_exception(self) -> BaseException:
        """Return the failure as an exception: of its own class when that is imported here, else a `TaskError`.

        The traceback of where it happened is added as a note (PEP 678).
        """
        error = self._same_class() or TaskError(f"{self.short_type}: {self.message}")
        where = f"in node {self.node}" if self.node else "in the job"
        error.add_note(f"Raised {where}:\n{self.traceback}" if self.traceback else f"Raised {where}")
        return error

    def to_error(self) -> BaseException:
        """Return the failure as an exception that a coroutine may raise: as `to_exception`, with these exceptions.

        `SystemExit`, `CancelledError`, `StopIteration` and their like steer the interpreter, the event loop or a
        generator: raised again where a result is awaited they would stop the wrong thing. They become a `TaskError`.
        """
        error = self.to_exception()
        if not isinstance(error, _STEERING):
            return error
        told = TaskError(f"{self.short_type}: {self.message}")
        told.__notes__ = error.__notes__
        return told

    def _same_class(self) -> BaseException | None:
        module, _, name = self.type.partition(":")
        kind: Any = imported_module(module)
        for part in name.split("."):
            kind = getattr(kind, part, None)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            return None
        try:
            error: BaseException = kind(*self.args)
            says_the_same = str(error) == self.message
        except Exception:  # noqa: BLE001  a class may demand any arguments; the caller falls back
            return None
        # A constructor written in Python may have made the message of its arguments, and would make it twice.
        return error if says_the_same or not isinstance(kind.__init__, FunctionType) else None


def record_failure(error: BaseException, node: str | None = None) -> Failure:
    """Return what is kept of an exception.

    >>> record_failure(ValueError("no rows")).message
    'no rows'
    """
    message = _message(error)
    return Failure(
        type=class_name(type(error)),
        message=message,
        args=_arguments(error, message),
        traceback=_cut(_writable("".join(traceback.format_exception(error))), _MOST_TRACE),
        node=node,
        ancestors=tuple(class_name(kind) for kind in type(error).__mro__[:-1]),
        **_wishes(error),
    )


def _wishes(error: BaseException) -> dict[str, float | None]:
    """Return what an exception says of further attempts."""
    match error:
        case Retry():
            return {"delay": error.delay, "limit": error.limit, "expires": error.expires}
        case Reject(requeue=True):
            return {"delay": _REQUEUE_SECONDS}
        case MaxRetriesExceededError() | BaseException(__cause__=MaxRetriesExceededError()):
            return {"limit": 0}
        case _:
            return {}


def _message(error: BaseException) -> str:
    try:
        return _cut(_writable(str(error)), _MOST_TEXT)
    except Exception:  # noqa: BLE001  a `__str__` that raises must not hide the failure that it belongs to
        return f"<{type(error).__name__} without a message: its __str__ failed>"


def _arguments(error: BaseException, message: str) -> tuple[Any, ...]:
    # `args` of an OSError lacks the file's name; the form in which it is pickled has it.
    args: tuple[Any, ...] = OSError.__reduce__(error)[1] if isinstance(error, OSError) else error.args  # type: ignore[assignment]
    if not all(type(arg) in _KEPT_ARGUMENTS for arg in args):
        return (message,)
    if sum(len(arg) for arg in args if isinstance(arg, str)) > _MOST_TEXT:
        return (message,)
    return tuple(_writable(arg) if isinstance(arg, str) else arg for arg in args)


def _cut(text: str, most: int) -> str:
    """Return text without its middle, where it is longer than anybody reads."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half:,} characters left out ...]\n{text[-half:]}"


def _writable(text: str) -> str:
    """Return text that UTF-8 can write: the names of files may hold lone surrogates, which are then escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
