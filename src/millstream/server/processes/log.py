"""What Gunicorn itself has to say, in the program's own log."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger


class GunicornLog(Logger):  # type: ignore[misc]  # Gunicorn has no types
    """Hands Gunicorn's lines on to Python's `logging`, as any other library's.

    What it tells of its ordinary doings, its name and version first, is of the level `debug` here: the master and the
    workers say themselves, in their own words, what is worth knowing of that.
    """

    def __init__(self, cfg: Config) -> None:
        """Open no file, and set nothing up."""
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn")
        self.access_log = logging.getLogger("gunicorn.access")

    def setup(self, cfg: Config) -> None:
        """Leave everything as it is."""

    def info(self, msg: str, *args: Any, **options: Any) -> None:
        """Write a line of the level `debug`."""
        self.error_log.debug(msg, *args, **options)

    def debug(self, msg: str, *args: Any, **options: Any) -> None:
        """Write nothing: it is mostly all of its settings, with defaults that mean nothing here."""

    def access(self, *_: Any) -> None:
        """Write no line for a request."""

    def reopen_files(self) -> None:
        """There are no files."""

    def close_on_exec(self) -> None:
        """As `reopen_files`."""
