"""Tasks on JSON: reading it, writing it, and picking a value out of it by a path."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from millstream.authoring.task import task
from millstream.library.values import as_text, bounded
from millstream.model.graph import pick

_MOST_INDENT = 8
_STEP = re.compile(r'\.?([^.\[\]"]+)|\[(-?\d+)\]|\["((?:[^"\\]|\\.)*)"\]')


@task(effect="pure")
def json_parse(text: Any) -> Any:
    """Read a text as JSON.

    Args:
        text: The text; a message stands for its text.

    Raises:
        ValueError: It is no JSON; the message says where.

    >>> json_parse('{"rows": [1, 2]}')
    {'rows': [1, 2]}
    """
    try:
        return msgspec.json.decode(as_text(text))
    except msgspec.DecodeError as error:
        raise ValueError(f"the text is no JSON: {error}") from None
    except RecursionError:
        raise ValueError("the text is no JSON that can be read: it is nested too deeply") from None


@task(effect="pure")
def json_format(
    value: Any, indent: Annotated[int, msgspec.Meta(ge=0, le=_MOST_INDENT)] = 2, *, is_sorted: bool = False
) -> str:
    """Write a value as JSON.

    Args:
        value: Anything that JSON can hold.
        indent: Spaces by which each level is indented, 0 to 8; 0 writes all in one line.
        is_sorted: Whether the keys of objects are sorted.

    Raises:
        TypeError: The value has no JSON form.
        ValueError: `indent` is out of range.
        OutputTooLargeError: The text would be longer than 10 Mi characters.

    >>> json_format({"b": 1, "a": 2}, 0, is_sorted=True)
    '{"a":2,"b":1}'
    """
    if not 0 <= indent <= _MOST_INDENT:
        raise ValueError(f"indent is {indent}, but must be 0 to {_MOST_INDENT}")
    written = msgspec.json.encode(value, order="sorted" if is_sorted else None)
    return bounded((msgspec.json.format(written, indent=indent) if indent else written).decode())


@task(effect="pure")
def json_pick(value: Any, path: str, default: Any = None, *, is_required: bool = True) -> Any:
    """Pick a value out of a larger one.

    Args:
        value: A value of objects and lists, such as `JsonParse` gives.
        path: Where it is: keys with dots between, positions in brackets from 0 (below 0 from the end), and keys with
            other signs in brackets and quotes, as in `rows[0].name` and `["first name"]`; empty is the whole value.
        default: What stands for a value that is not there, unless it is required.
        is_required: Whether it is an error that nothing is there.

    Raises:
        LookupError: Nothing is there.
        ValueError: The path cannot be read.

    >>> json_pick({"rows": [{"name": "Ada"}]}, "rows[0].name")
    'Ada'
    """
    try:
        return pick(value, steps(path))
    except LookupError:
        if is_required:
            raise
        return default


def steps(path: str) -> tuple[str | int, ...]:
    r"""Return the keys and positions that a path consists of.

    Raises:
        ValueError: The path cannot be read from some character on.

    >>> steps('rows[-1]["first name"].x')
    ('rows', -1, 'first name', 'x')
    """
    found: list[str | int] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or (at == 0 and path[0] == "."):
            raise ValueError(f"the path {path!r} cannot be read from {path[at:]!r} on; write it as in rows[0].name")
        key, position, quoted = step.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted))
        else:
            found.append(key if position is None else int(position))
        at = step.end()
    return tuple(found)
