"""Where the lines go that tell operators what happens: to structlog if somebody has set it up, else to `logging`.

The programs of the command line and the workers set structlog up. In a user's own program nobody may have: then the
lines are those of any library, which Python shows on standard error from `warning` on unless its `logging` is set up.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.stdlib import BoundLogger, filter_by_level


def get_logger(name: str) -> Any:
    """Return a logger with the methods of structlog's: `debug`, `info`, `warning`, `error`, `critical`.

    Args:
        name: Its name, such as `millstream.events`; in `logging` it stands under that.

    Example:
        >>> get_logger("millstream.jobs").debug("a line that nobody sees", job="01ab")
    """
    return _Logger(name)


def as_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return a line as text: what happened, its particulars, and the traceback if there is one."""
    text, exception = event.pop("event"), event.pop("exception", None)
    said = " ".join((str(text), *(f"{name}={value!r}" for name, value in event.items())))
    return said if exception is None else f"{said}\n{exception}"


class _Logger:
    """Finds out anew for each line where it goes: structlog may be set up at any time."""

    __slots__ = ("_name", "_plain")

    def __init__(self, name: str) -> None:
        self._name = name
        self._plain: Any = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[filter_by_level, structlog.processors.format_exc_info, as_text],
            wrapper_class=BoundLogger,
        )

    def __getattr__(self, method: str) -> Any:
        return getattr(structlog.get_logger(self._name) if structlog.is_configured() else self._plain, method)
