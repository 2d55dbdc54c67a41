"""Writes values for people to read: as JSON that fits the line, else as Python writes them."""

from __future__ import annotations

import json
from typing import Any

from rich.pretty import pretty_repr

from millstream.desk.told import json_of

_MINUTE, _HOUR = 60, 3600


def readable(value: Any, width: int) -> str:
    """Return a value as JSON, with as few lines as fit into a width; as Python's `repr` where it has no JSON form.

    >>> print(readable({"name": "Ada", "sizes": [1, 2]}, width=24))
    {
      "name": "Ada",
      "sizes": [1, 2]
    }
    """
    encoded = json_of(value)
    if encoded is None:
        return pretty_repr(value, max_width=width)
    return _laid_out(json.loads(encoded), width, "")


def duration(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> duration(0.0214), duration(4.231), duration(125), duration(3725)
    ('21 ms', '4.2 s', '2 min 5 s', '1 h 2 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"


def short_name(name: str) -> str:
    """Return the last part of a registered name.

    >>> short_name("shop.flows.nightly")
    'nightly'
    """
    return name.rpartition(".")[2]


def first_line(text: str) -> str:
    r"""Return the first line of a text, with a sign where there are more.

    >>> first_line("no rows\nin page 3")
    'no rows …'
    """
    lines = text.strip().splitlines()
    return f"{lines[0]} …" if len(lines) > 1 else text.strip()


def cut(text: str, *, lines: int, characters: int) -> tuple[str, bool]:
    r"""Return at most so much of a text, and whether something was left out.

    >>> cut("a\nb\nc", lines=2, characters=100)
    ('a\nb', True)
    """
    kept = "\n".join(text[: characters + 1].split("\n")[:lines])[:characters]
    return kept, len(kept) < len(text)


def _laid_out(value: Any, width: int, indent: str) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, list | dict) or not value or len(indent) + len(flat) <= width:
        return flat
    deeper = f"{indent}  "
    if isinstance(value, dict):
        items = [
            f"{json.dumps(key, ensure_ascii=False)}: {_laid_out(item, width, deeper)}" for key, item in value.items()
        ]
        opening, closing = "{", "}"
    else:
        items = [_laid_out(item, width, deeper) for item in value]
        opening, closing = "[", "]"
        if not any(isinstance(item, list | dict) for item in value):
            items = _filled(items, width - len(deeper) - 1)
    inside = f",\n{deeper}".join(items)
    return f"{opening}\n{deeper}{inside}\n{indent}{closing}"


def _filled(items: list[str], width: int) -> list[str]:
    """Put as many items on a line as fit."""
    lines = [items[0]]
    for item in items[1:]:
        if len(lines[-1]) + len(item) + 2 <= width:
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines
