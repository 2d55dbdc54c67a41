"""Standard output and error while a job runs, below Python: pool processes and C code write there too."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

_STDOUT, _STDERR = 1, 2


def fill_missing() -> None:
    """Put a stream that goes nowhere in the place of each standard stream that the program was started without."""
    for descriptor, name in ((_STDOUT, "stdout"), (_STDERR, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", closefd=False))  # noqa: SIM115  for good


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Let everything that is written to standard output within the block go to standard error."""
    with _kept(_STDOUT):
        os.dup2(_STDERR, _STDOUT)
        yield


@contextmanager
def lines_to(show: Callable[[str], None]) -> Iterator[None]:
    """Hand what is written to the terminal within the block to `show`, line by line, from a thread.

    Standard output is left alone where it is not a terminal.
    """
    descriptors = [_STDOUT, _STDERR] if os.isatty(_STDOUT) else [_STDERR]
    # A process that the job leaves behind may hold the pipe open for ever, so its end is told by a line of its own.
    last = f"\0{secrets.token_hex(8)}"
    source, sink = os.pipe()
    reader = Thread(target=_read_lines, args=(source, last, show), daemon=True, name="millstream-output")
    reader.start()
    try:
        with _kept(*descriptors):
            for descriptor in descriptors:
                os.dup2(sink, descriptor)
            yield
    finally:
        os.write(sink, f"{last}\n".encode())
        os.close(sink)
        reader.join()


@contextmanager
def _kept(*descriptors: int) -> Iterator[None]:
    """Give file descriptors back what they stood for, however the block ends."""
    saved = [(descriptor, os.dup(descriptor)) for descriptor in descriptors]
    _flush()
    try:
        yield
    finally:
        _flush()
        for descriptor, former in saved:
            os.dup2(former, descriptor)
            os.close(former)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _read_lines(source: int, last: str, show: Callable[[str], None]) -> None:
    with open(source, encoding="utf-8", errors="replace", newline="\n") as pipe:
        for written in pipe:
            line = written.removesuffix("\n")
            text = line.removesuffix(last)
            is_last = text != line
            if text or not is_last:
                with suppress(OSError):  # a terminal that is gone must not hold up the job
                    show(_last_version(text))
            if is_last:
                return


def _last_version(line: str) -> str:
    """Return what a terminal would show of a line that was written again and again from its beginning."""
    return line.rstrip("\r").rpartition("\r")[2]
