"""A signal: functions that ask to be called when something happens, as `celery.utils.dispatch.Signal` has them."""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from millstream.engine.signatures import signature_of

Receiver = Callable[..., Any]
R = TypeVar("R", bound=Callable[..., Any])

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Connection:
    """One function that listens, and to whom.

    Attributes:
        key: What makes it one: the function or the `dispatch_uid`, and the sender.
        sender: The only sender that it listens to; `None` for all.
        find: Returns the function, or `None` when it is gone.
    """

    key: tuple[Hashable, int | None]
    sender: Any
    find: Callable[[], Receiver | None]


class Signal:
    """Calls functions when something happens.

    Receivers run where the signal is sent, in the order in which they were connected. What one raises is logged, and
    stops neither the others nor the task.

    Args:
        providing_args: Names of the arguments that receivers get, beside `signal` and `sender`.
        name: The signal's name.

    Example:
        >>> done = Signal({"result"}, name="done")
        >>> @done.connect
        ... def say(sender, result, **_): print(sender, result)
        >>> _ = done.send("shop.pay", result=3)
        shop.pay 3
    """

    def __init__(self, providing_args: Iterable[str] = (), *, name: str | None = None) -> None:
        self.providing_args = frozenset(providing_args)
        self.name = name
        self._lock = threading.Lock()
        self._connections: tuple[_Connection, ...] = ()

    @property
    def receivers(self) -> list[Receiver]:
        """The functions that are connected."""
        return [found for connection in self._connections if (found := connection.find()) is not None]

    @overload
    def connect(self, receiver: R, sender: Any = None, **options: Any) -> R: ...
    @overload
    def connect(self, *, sender: Any = None, **options: Any) -> Callable[[R], R]: ...
    def connect(self, receiver: Any = None, sender: Any = None, **options: Any) -> Any:
        """Call a function whenever the signal is sent; also a decorator, with or without arguments.

        Args:
            receiver: The function; it must take keyword arguments it does not know (`**kwargs`).
            sender: The only sender to listen to (for task signals: the task); without it all.
            options: `weak` (default True: a function that nothing else holds is forgotten), `dispatch_uid` (a second
                function with the same one is not connected).

        Returns:
            The function itself; a decorator where none is given.

        Raises:
            TypeError: What is given is no function, or an option is unknown.
            ValueError: The function does not take keyword arguments.
        """
        if receiver is None:
            return lambda function: self._connect(function, sender, **options)
        if not callable(receiver):
            raise TypeError(f"only functions can be connected to a signal, not {receiver!r}; name a sender by sender=")
        return self._connect(receiver, sender, **options)

    def disconnect(self, receiver: Receiver | None = None, sender: Any = None, dispatch_uid: Any = None) -> bool:
        """Do not call a function any more; return whether it was connected in this way."""
        key = _key(receiver, sender, dispatch_uid)
        with self._lock:
            kept = tuple(known for known in self._connections if known.key != key)
            was_connected = len(kept) < len(self._connections)
            self._connections = kept
        return was_connected

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether anybody listens to this sender."""
        return bool(self._listening(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the functions that listen to this sender.

        Returns:
            Each function with what it returned, or with the error that it raised.
        """
        if not self._connections:
            return []
        answers: list[tuple[Receiver, Any]] = []
        for receiver in self._listening(sender):
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **named)))
            except Exception as error:  # noqa: BLE001  a receiver is the user's: whatever it raises is its answer
                _log.exception("a receiver of the signal %s raised an error: %r", self.name, receiver)
                answers.append((receiver, error))
        return answers

    send_robust = send

    def _connect(
        self, receiver: Receiver, sender: Any = None, *, weak: bool = True, dispatch_uid: Hashable = None
    ) -> Receiver:
        if not _takes_keywords(receiver):
            raise ValueError(f"{receiver!r} must take keyword arguments: give it a **kwargs")
        key = _key(receiver, sender, dispatch_uid)
        connection = _Connection(key, sender, _reference(receiver) if weak else lambda: receiver)
        with self._lock:
            alive = tuple(known for known in self._connections if known.find() is not None)
            if all(known.key != key for known in alive):
                alive = (*alive, connection)
            self._connections = alive
        return receiver

    def _listening(self, sender: Any) -> list[Receiver]:
        meant = [known for known in self._connections if known.sender is None or _is_same(known.sender, sender)]
        return [found for connection in meant if (found := connection.find()) is not None]

    def __repr__(self) -> str:
        """Return a form that names the signal and its arguments."""
        return f"<Signal {self.name}: {', '.join(sorted(self.providing_args))}>"


def _key(receiver: Receiver | None, sender: Any, dispatch_uid: Hashable) -> tuple[Hashable, int | None]:
    """Return what makes a connection one and the same."""
    if dispatch_uid is not None:
        who: Hashable = ("uid", dispatch_uid)
    elif inspect.ismethod(receiver):
        who = (id(receiver.__self__), id(receiver.__func__))
    else:
        who = id(receiver)
    return who, None if sender is None else hash(sender) if isinstance(sender, str) else id(sender)


def _is_same(wanted: Any, sender: Any) -> bool:
    return wanted is sender or (isinstance(wanted, str) and wanted == sender)


def _reference(receiver: Receiver) -> Callable[[], Receiver | None]:
    return weakref.WeakMethod(receiver) if inspect.ismethod(receiver) else weakref.ref(receiver)


def _takes_keywords(receiver: Receiver) -> bool:
    try:
        parameters = signature_of(receiver).parameters.values()
    except (TypeError, ValueError):  # written in C: nothing can be said of it
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
