"""Standard output and error while a job runs, below Python: pool processes and C code write there too."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

_STDOUT, _STDERR = 1, 2
_LAST_WORDS_SECONDS = 1.0


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
    source, sink = os.pipe()
    reader = Thread(target=_read_lines, args=(source, show), daemon=True, name="millstream-output")
    reader.start()
    try:
        with _kept(*descriptors):
            for descriptor in descriptors:
                os.dup2(sink, descriptor)
            os.close(sink)
            yield
    finally:
        # A process that the job left behind may hold the pipe open for ever.
        reader.join(_LAST_WORDS_SECONDS)


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


def _read_lines(source: int, show: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    with open(source, "rb", buffering=0) as pipe:
        while read := pipe.read(65_536):
            *lines, rest = (rest + decoder.decode(read)).split("\n")
            for line in lines:
                show(_last_version(line))
    if rest:
        show(_last_version(rest))


def _last_version(line: str) -> str:
    """Return what a terminal would show of a line that was written again and again from its beginning."""
    return line.rstrip("\r").rpartition("\r")[2]
