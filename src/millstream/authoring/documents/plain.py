"""Holds what is read from JSON to limits before anything else looks at it, without recursion: depth, lengths, types."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from millstream.errors import DocumentError

MOST_DEPTH: Final = 64
"""How deeply lists and objects may lie in each other."""

MOST_TEXT: Final = 1 << 20
"""Bytes of UTF-8 that one text may have."""

MOST_PROBLEMS: Final = 100
"""After so many problems of one document no further ones are looked for."""

Problem = tuple[str, str]
"""A place, such as `nodes[2].data.values.text`, and what is wrong there."""

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}")
_SHOWN: Final = 60


def parsed(data: Any) -> Any:
    """Return what a JSON text says; anything but a text as it is.

    Raises:
        DocumentError: It is no JSON.
    """
    if not isinstance(data, str | bytes | bytearray | memoryview):
        return data
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DocumentError([("document", f"it is no JSON: {error}")]) from None
    except RecursionError:
        raise DocumentError([("document", _TOO_DEEP)]) from None


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise the first problems together, if there are any.

    Raises:
        DocumentError: There are some.
    """
    found = []
    for problem in problems:
        found.append(problem)
        if len(found) == MOST_PROBLEMS:
            break
    if found:
        raise DocumentError(found)


def below(where: str, key: str | int) -> str:
    """Return the place of a part of what is at a place.

    >>> below("nodes[2].data", "values"), below("nodes", 3), below("", "nodes"), below("values", "a b")
    ('nodes[2].data.values', 'nodes[3]', 'nodes', "values['a b']")
    """
    if isinstance(key, str) and _NAME.fullmatch(key):
        return f"{where}.{key}" if where else key
    return f"{where}[{shown(key)}]"


def shown(value: Any) -> str:
    """Return a value as messages show it: on one line, and short.

    >>> shown("a" * 100)[-4:]
    "aa…'"
    """
    if isinstance(value, str):
        text = ascii(value[:_SHOWN])
        return text if len(value) <= _SHOWN else f"{text[:-1]}…{text[-1]}"
    if value is None or isinstance(value, bool | int | float):
        return _CONSTANTS.get(repr(value), repr(value)[:_SHOWN])
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


_CONSTANTS: Final = {"None": "null", "True": "true", "False": "false"}


def limit_problems(data: Any, where: str = "") -> Iterator[Problem]:
    """Yield what of a value no document may hold: too deep, too long, or nothing that JSON has.

    >>> list(limit_problems({"x": [float("nan")]}))
    [('x[0]', 'nan is no number that JSON has')]
    """
    stack: list[tuple[str, Any, int]] = [(where, data, 0)]
    while stack:
        place, value, depth = stack.pop()
        if isinstance(value, Mapping | list | tuple):
            if depth == MOST_DEPTH:
                yield place or "document", _TOO_DEEP
            elif isinstance(value, Mapping):
                yield from _key_problems(value, place)
                stack += [(below(place, key), item, depth + 1) for key, item in value.items() if isinstance(key, str)]
            else:
                stack += [(f"{place}[{index}]", item, depth + 1) for index, item in enumerate(value)]
        elif what := _problem_of(value):
            yield place or "document", what


_TOO_DEEP: Final = f"lists and objects lie in each other more than {MOST_DEPTH} deep"


def _key_problems(value: Mapping[Any, Any], place: str) -> Iterator[Problem]:
    for key in value:
        if not isinstance(key, str):
            yield place or "document", f"its key {shown(key)} is no text"
        elif what := _problem_of(key):
            yield place or "document", f"its key {shown(key)}: {what}"


def _problem_of(value: Any) -> str | None:
    """Return what is wrong with a value that holds no others."""
    match value:
        case str():
            return _text_problem(value)
        case None | bool():
            return None
        case int():
            return None if -(1 << 63) <= value < 1 << 63 else "a whole number has at most 63 bits"
        case float():
            return None if math.isfinite(value) else f"{value} is no number that JSON has"
        case _:
            return f"{shown(value)} is nothing that JSON has"


def _text_problem(text: str) -> str | None:
    try:
        size = len(text.encode()) if len(text) > MOST_TEXT // 4 or not text.isascii() else len(text)
    except UnicodeEncodeError:
        return "the text holds half a character (a lone surrogate)"
    return None if size <= MOST_TEXT else f"the text has {size:,} bytes, but may have {MOST_TEXT:,}"
