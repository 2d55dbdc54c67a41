"""Finds the line of the user's own code that an error is about."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

_OURS = str(Path(__file__).resolve().parent.parent)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FRAME = re.compile(r'^ +File "(?P<file>.+)", line (?P<line>\d+)', re.MULTILINE)


def place_of(error: BaseException) -> str | None:
    """Return where in the user's code an exception began, as `file:line`; `None` where it has nothing to do with it.

    The cause of an exception counts for it, and a file with a syntax error is its place.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SyntaxError) and error.filename:
        return _written(error.filename, error.lineno or 1)
    frames = ((frame.filename, frame.lineno or 1) for frame in traceback.extract_tb(error.__traceback__))
    return _written(*found) if (found := _innermost(frames)) else None


def place_in(formatted: str) -> str | None:
    """Return the same of a traceback that was formatted, maybe in another process."""
    frames = ((match["file"], int(match["line"])) for match in _FRAME.finditer(formatted))
    return _written(*found) if (found := _innermost(frames)) else None


def shown(path: str | Path) -> str:
    """Return a path as it is shortest to read: relative, where it lies below the working directory.

    >>> shown(Path.cwd() / "flows" / "shop.py")
    'flows/shop.py'
    """
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _innermost(frames: Iterable[tuple[str, int]]) -> tuple[str, int] | None:
    """Return the last frame that belongs neither to millstream nor to Python and its installed packages."""
    own = [frame for frame in frames if not frame[0].startswith((_OURS, "<", *_LIBRARIES))]
    return own[-1] if own else None


def _written(file: str, line: int) -> str:
    return f"{shown(file)}:{line}"
