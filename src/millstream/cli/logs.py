"""Sets up the program's own log: structlog, and Python's `logging` where nobody else set it up."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog


def configure(level: str, form: Literal["console", "json"]) -> None:
    """Send log lines to standard error. What the user's own code has set up stays as it is.

    Args:
        level: The lowest level that is written: `debug`, `info`, `warning` or `error`.
        form: `console` for people, `json` for programs.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if form == "console" else "iso", utc=form == "json"),
    ]
    if not logging.root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)]
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
        logging.root.addHandler(handler)
        logging.root.setLevel(level.upper())
        logging.getLogger("asyncio").setLevel(max(logging.INFO, logging.root.level))  # below, it talks of selectors
        logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.root.level))  # we say the same, in our words
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *shared,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


def forget() -> None:
    """Undo `configure`, in a process that has inherited it and will load the user's code, which may set up its own."""
    for handler in logging.root.handlers[:]:
        logging.root.removeHandler(handler)
    structlog.reset_defaults()


def _renderers(form: Literal["console", "json"]) -> list[Any]:
    if form == "json":
        # Local variables may hold passwords.
        as_data = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [structlog.processors.ExceptionRenderer(as_data), structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
