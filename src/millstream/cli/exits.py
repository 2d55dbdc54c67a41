"""How the program ends: the only home of its exit codes, and of which error has which code and words."""

from __future__ import annotations

from enum import IntEnum

import typer

from millstream.cli.places import place_of
from millstream.errors import (
    AddressInUseError,
    DefinitionError,
    DocumentError,
    GraphError,
    InvalidCursorError,
    InvalidInputError,
    JobNotFoundError,
    MillstreamError,
    SettingsError,
    UnknownNameError,
)
from millstream.ledger.accounts import NameTakenError
from millstream.ledger.base import LedgerUnavailableError, StorageFullError, UnfitLedgerError


class Exit(IntEnum):
    """The exit codes; docs/reference/cli.md says when each comes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69  # EX_UNAVAILABLE of <sysexits.h>
    INTERNAL = 70  # EX_SOFTWARE of <sysexits.h>
    CONFIG = 78  # EX_CONFIG of <sysexits.h>
    INTERRUPTED = 130  # what a shell reports of SIGINT
    TERMINATED = 143  # of SIGTERM


class LoadError(MillstreamError):
    """Raised when what the command line names cannot be loaded, or holds nothing to run."""


class WrongUseError(MillstreamError):
    """Raised when a command cannot do what its arguments ask for."""


class AwayError(MillstreamError):
    """Raised when a server that a command asks does not answer, or cannot serve."""


class StoppedError(MillstreamError):
    """Raised when a signal stops a command before it has submitted a job."""

    def __init__(self, signum: int) -> None:
        """Take the signal's number."""
        super().__init__("stopped before the job was submitted")
        self.signum = signum


def exit_of_signal(signum: int) -> Exit:
    """Return the exit code of a program that a signal stopped.

    >>> exit_of_signal(15)
    <Exit.TERMINATED: 143>
    """
    return Exit(128 + signum)


def explain(error: BaseException) -> tuple[Exit, list[str]]:
    """Return an error's exit code, and what to say of it: a line for each problem."""
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code, _lines(error)
    if isinstance(error, StoppedError):
        return exit_of_signal(error.signum), [str(error)]
    said = getattr(error, "format_message", None)  # errors of Typer's parser, whose base class it does not export
    if said is not None:
        return Exit.USAGE, [_usage(said(), getattr(error, "ctx", None))]
    return Exit.INTERNAL, [f"internal error: {type(error).__name__}: {error} (--debug shows the traceback)"]


_CODES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit], ...] = (
    ((SettingsError, UnfitLedgerError), Exit.CONFIG),
    ((DefinitionError, InvalidInputError, UnknownNameError, LoadError), Exit.USAGE),
    ((JobNotFoundError, InvalidCursorError, NameTakenError, WrongUseError), Exit.USAGE),
    ((AddressInUseError, LedgerUnavailableError, StorageFullError, AwayError), Exit.UNAVAILABLE),
    ((KeyboardInterrupt, typer.Abort), Exit.INTERRUPTED),
)


def _lines(error: BaseException) -> list[str]:
    match error:
        case SettingsError():
            return str(error).splitlines()
        case GraphError():
            return [*error.problems]
        case DocumentError():
            return [f"{where}: {what}" for where, what in error.problems]
        case DefinitionError() if place := place_of(error):
            return [f"{place}: {error}"]
    return [str(error) or "interrupted"]


def _usage(message: str, context: typer.Context | None) -> str:
    words = f"{message[:1].lower()}{message[1:].rstrip('.')}"
    return f"{words} (see `{context.command_path} --help`)" if context else words
