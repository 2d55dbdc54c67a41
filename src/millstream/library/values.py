"""What travels between the tasks of visual flows: messages, and how any value reads as text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypedDict

import msgspec

from millstream.errors import OutputTooLargeError

MOST_TEXT = 10 << 20
"""Characters that a task of the library takes or returns at most: work on them is over in an instant."""

MOST_PARTS = 100_000
"""Parts into which a task of the library takes a text at most."""


class Message(TypedDict):
    """What somebody says in a chat."""

    text: str
    sender: str
    sender_name: str
    session_id: str
    files: list[str]


def is_message(value: Any) -> bool:
    """Whether a value is a message: whether it has the parts of one.

    >>> is_message({"text": "hello"})
    False
    """
    return isinstance(value, dict) and Message.__required_keys__ <= value.keys() and isinstance(value["text"], str)


def plain(value: Any) -> Any:
    """Return the text in place of a message, and any other value as it is."""
    return value["text"] if is_message(value) else value


def as_text(value: Any) -> str:
    """Return a value as text: a text itself, that of a message, nothing for `None`, and else the value's JSON form.

    Raises:
        TypeError: The value has no JSON form.
        OutputTooLargeError: It has more than `MOST_TEXT` characters.

    >>> as_text({"rows": [1, 2]})
    '{"rows":[1,2]}'
    """
    value = plain(value)
    if value is None:
        return ""
    return bounded(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def bounded(text: str) -> str:
    """Return a text that is no longer than a task of the library may make it.

    Raises:
        OutputTooLargeError: It has more than `MOST_TEXT` characters.
    """
    check_size(len(text))
    return text


def check_size(size: int) -> None:
    """Refuse a text that would become too long, before it is made.

    Raises:
        OutputTooLargeError: `size` is more than `MOST_TEXT` characters.
    """
    if size > MOST_TEXT:
        raise OutputTooLargeError(f"the text has {size:,} characters, but may have {MOST_TEXT:,}")


def bounded_parts(parts: Iterable[str]) -> list[str]:
    """Return the parts of a text as a list, unless they are too many.

    Raises:
        OutputTooLargeError: There are more than `MOST_PARTS`.
    """
    found = list(islice(parts, MOST_PARTS + 1))
    if len(found) > MOST_PARTS:
        raise OutputTooLargeError(f"the text has more than {MOST_PARTS:,} such parts")
    return found
