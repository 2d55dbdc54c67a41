"""How deep canvases may be nested: as deep as Python's own calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from millstream.errors import DefinitionError


@contextmanager
def within_limits() -> Iterator[None]:
    """Say what to do where a canvas is nested too deep; also as a decorator.

    Every group that something follows is one level: that is the body of its chord. About 120 of them fit.

    Raises:
        DefinitionError: It is.
    """
    try:
        yield
    except RecursionError:
        raise DefinitionError(
            f"the canvas is nested too deep for Python's recursion limit of {sys.getrecursionlimit()}: each group that "
            "something follows nests what follows in it; submit it in parts, or write it as a flow"
        ) from None
