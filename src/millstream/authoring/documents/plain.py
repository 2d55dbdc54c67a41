"""Holds what is read from JSON to limits before anything else looks at it, without recursion: depth, lengths, types."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from millstream.errors import DocumentError

MOST_DEPTH: Final = 64
"""How deeply lists and objects may lie in each other."""

MOST_TEXT: Final = 1 << 20
"""Bytes of UTF-8 that one text may have."""

MOST_PROBLEMS: Final = 100
"""After so many problems of one document no further ones are looked for."""

MOST_VALUES: Final = 500_000
"""Items of lists and members of objects that a document may have in all."""

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
    if isinstance(value, int) and value.bit_length() > _BITS:
        return "a number of many digits"
    if value is None or isinstance(value, int | float):
        return _CONSTANTS.get(repr(value), repr(value)[:_SHOWN])
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


_BITS: Final = 64
_CONSTANTS: Final = {"None": "null", "True": "true", "False": "false"}


def limit_problems(data: Any, where: str = "") -> Iterator[Problem]:
    """Yield what of a value no document may hold: too deep, too long, or nothing that JSON has.

    >>> list(limit_problems({"x": [float("nan")]}))
    [('x[0]', 'nan is no number that JSON has')]
    """
    stack: list[tuple[_Way, Any, int]] = [((None, where), data, 0)]
    count = 0
    while stack:
        way, value, depth = stack.pop()
        if type(value) not in _HOLDERS:
            if what := _problem_of(value):
                yield _place(way), what
            continue
        count += len(value)
        if depth == MOST_DEPTH or count > MOST_VALUES:
            yield _place(way), _TOO_DEEP if depth == MOST_DEPTH else f"there are more than {MOST_VALUES:,} values"
            return
        pairs: Iterable[tuple[Any, Any]] = enumerate(value)
        items = value
        if type(value) is dict:
            pairs, items = value.items(), value.values()
            if not _are_fine(value):
                yield from _key_problems(value, _place(way))
        if not _are_fine(items):
            stack += [((way, key), item, depth + 1) for key, item in pairs]


_Way = tuple[Any, str | int]
"""The keys on the way to a value, the last one first; made a text only where something is wrong there."""


def _place(way: _Way) -> str:
    keys = []
    outer: Any = way
    while outer is not None:
        outer, key = outer
        keys.append(key)
    place = keys.pop()
    for key in reversed(keys):
        place = below(place, key)
    return place or "document"


def _are_fine(items: Collection[Any]) -> bool:
    """Whether nothing is wrong with any of some values, none of which holds others; most are, and it is soon said."""
    kinds = set(map(type, items))
    if not kinds <= _PLAIN:
        return False
    texts = [item for item in items if type(item) is str] if str in kinds else []
    if texts and (max(map(len, texts)) > MOST_TEXT // 4 or not _is_whole("".join(texts))):
        return False
    numbers = [item for item in items if type(item) in (int, float)] if kinds & {int, float} else []
    return all(-_MOST_WHOLE <= number < _MOST_WHOLE for number in numbers)  # which no NaN is


def _is_whole(text: str) -> bool:
    """Whether a text has a form in UTF-8: it holds no half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_MOST_WHOLE: Final = 1 << 63
_HOLDERS: Final = frozenset({dict, list, tuple})
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_TOO_DEEP: Final = f"lists and objects lie in each other more than {MOST_DEPTH} deep"


def _key_problems(value: dict[Any, Any], place: str) -> Iterator[Problem]:
    for key in value:
        if not isinstance(key, str):
            yield place or "document", f"its key {shown(key)} is no text"
        elif what := _problem_of(key):
            yield place or "document", f"its key {shown(key)}: {what}"


def _problem_of(value: Any) -> str | None:
    """Return what is wrong with a value that holds no others."""
    kind = type(value)
    if kind not in _PLAIN:
        return f"{shown(value)} is nothing that JSON has"
    if kind is str:
        return _text_problem(value)
    if kind is int and not -_MOST_WHOLE <= value < _MOST_WHOLE:
        return "a whole number has at most 63 bits"
    return f"{value} is no number that JSON has" if kind is float and not math.isfinite(value) else None


def _text_problem(text: str) -> str | None:
    if not _is_whole(text):
        return "the text holds half a character (a lone surrogate)"
    size = len(text) if len(text) <= MOST_TEXT // 4 else len(text.encode())
    return None if size <= MOST_TEXT else f"the text has {size:,} bytes, but may have {MOST_TEXT:,}"
