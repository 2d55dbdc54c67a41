"""Time, ids and chance: the only home of each, so that a test can put another clock in their place."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

from uuid_utils import uuid7


class Timer(Protocol):
    """A call that was put off; `asyncio.TimerHandle` is one."""

    def cancel(self) -> None:
        """Take the call back; nothing happens when it was made already."""


class Clock(Protocol):
    """Where the engine gets the time from."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards; their zero means nothing."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running loop after `seconds`."""

    def hold(self) -> Timer:
        """Say that work begins in a thread or process, where only real time passes; at its end cancel what is returned.

        A clock that a test moves does not run ahead of such work.
        """


class SystemClock:
    """The machine's clock, on the running asyncio loop; the functions themselves, since each node asks for the time."""

    __slots__ = ()

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running loop after `seconds`."""
        return asyncio.get_running_loop().call_later(seconds, callback)

    def hold(self) -> Timer:
        """Take no notice: this time cannot be held."""
        return _NOTHING


class _Nothing:
    """Stands for a timer where there is none."""

    __slots__ = ()

    def cancel(self) -> None:
        pass


_NOTHING = _Nothing()


in_background: ContextVar[bool] = ContextVar("millstream_in_background", default=False)
"""Whether what runs here looks around now and then for ever: a clock that a test moves does not wait for its rests."""


chance = Random().random  # noqa: S311  no secrets are made of it
"""Return a random number in [0, 1); the program's own `random`, which it may have seeded, is left alone."""


def new_id() -> str:
    """Return a new id: a UUID of version 7 (RFC 9562), 36 characters, sorted by time of making."""
    return str(uuid7())


_AGO = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def instant(text: str, now: datetime) -> datetime:
    """Return the time that a text means: so long ago, or a date, or a date and time.

    What has no time zone is meant as the clocks show it here.

    Raises:
        ValueError: It has another form.

    Example:
        >>> instant("1.5h", now=datetime.fromisoformat("2026-11-01T12:00+01:00")).isoformat()
        '2026-11-01T10:30:00+01:00'
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return now - timedelta(seconds=float(ago["count"]) * _SECONDS[ago["unit"]])
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is no time; write how long ago, as 30m, 2h or 7d, or a date, as 2026-11-01 or 2026-11-01T08:30"
        ) from None
