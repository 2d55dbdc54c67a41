"""Tasks on texts: transforming them, and joining several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from millstream.authoring.task import task
from millstream.library.values import MOST_PARTS, as_text, bounded, bounded_parts, check_size

Operation = Literal["trim", "upper", "lower", "title", "replace", "split", "join", "slice", "length"]

_SIMPLE: Mapping[Operation, Callable[[str], str]] = {
    "trim": str.strip,
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
}


@task(effect="pure")
def text_transform(
    text: Any,
    operation: Operation = "trim",
    find: str = "",
    replacement: str = "",
    separator: str = ",",
    start: int = 0,
    end: int | None = None,
) -> str | list[str] | int:
    """Change a text.

    Args:
        text: The text; a message stands for its text. `join` takes a list, whose items are joined.
        operation: What to do.
        find: For `replace`: what is replaced, at each place.
        replacement: For `replace`: what comes in its place.
        separator: For `split` and `join`: what stands between the parts; empty splits at white space.
        start: For `slice`: the first character, from 0; below 0 it counts from the end.
        end: For `slice`: the character before which it ends; none is the end of the text.

    Returns:
        The text; the parts (`split`), or how many characters there are (`length`).

    Raises:
        ValueError: There is no such operation, or `find` is empty.
        TypeError: `join` got no list.
        OutputTooLargeError: A text is longer than 10 Mi characters, or has more than 100,000 parts.

    >>> text_transform("a, b", "split", separator=", ")
    ['a', 'b']
    """
    match operation:
        case "join":
            return _joined(text, separator)
        case "replace":
            return _replaced(as_text(text), find, replacement)
        case "split":
            return bounded_parts(as_text(text).split(separator or None, MOST_PARTS))
        case "slice":
            return as_text(text)[start:end]
        case "length":
            return len(as_text(text))
        case _ if operation in _SIMPLE:
            return bounded(_SIMPLE[operation](as_text(text)))
        case _:
            raise ValueError(f"operation is {operation!r}, which a text cannot be changed by")


def _replaced(text: str, find: str, replacement: str) -> str:
    if not find:
        raise ValueError("find is empty; give the text that is to be replaced")
    check_size(len(text) + text.count(find) * (len(replacement) - len(find)))
    return text.replace(find, replacement)


def _joined(texts: Any, separator: str) -> str:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"join takes a list of texts, not a {type(texts).__name__}")
    parts = [as_text(text) for text in texts]
    check_size(sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
    return separator.join(parts)


@task(effect="pure")
def concatenate(texts: list[Any], separator: str = "\n") -> str:
    """Join texts to one.

    Args:
        texts: The texts, in the order of their edges; a message stands for its text, any other value for its JSON form.
        separator: What stands between them.

    Raises:
        OutputTooLargeError: The text would be longer than 10 Mi characters.

    >>> concatenate(["one", "two"], " and ")
    'one and two'
    """
    return _joined(texts, separator)
