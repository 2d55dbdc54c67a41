"""Reads what a function takes, without asking what its annotations stand for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

if sys.version_info >= (3, 14):
    from annotationlib import Format

    def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
        """Return the signature of a function; an annotation that names nothing yet stays a forward reference.

        Raises:
            TypeError: It is no function, nor anything else that can be called.
            ValueError: It is written in C, and does not say what it takes.
        """
        # A module evaluates its annotations when they are first read since Python 3.14: a type may be defined further
        # down, or imported for type checkers only.
        return inspect.signature(fn, annotation_format=Format.FORWARDREF)

else:
    signature_of = inspect.signature
