"""The form of a flow document: which fields there are, and what each may hold. What they mean together is not asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from millstream.authoring.documents.plain import Problem, below, shown

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_MOST_LABEL: Final = 500
_MOST_NOTE: Final = 20_000
_MOST_NAME: Final = 200


class Field(NamedTuple):
    """What a field may hold.

    Attributes:
        holds: Whether a value may be there.
        words: What must be there.
        is_required: Whether it must be there at all.
    """

    holds: Callable[[Any], bool]
    words: str
    is_required: bool = False


def is_id(value: Any) -> bool:
    """Whether a value can be a node's id.

    >>> is_id("ChatInput-a1B2c"), is_id("../x")
    (True, False)
    """
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def uuid_of(value: Any) -> str | None:
    """Return a UUID in the one form that ids of flows have here; `None` for anything else.

    >>> uuid_of("0190D5AE-7C3F-7B1E-9D3F-1B2A3C4D5E6F"), uuid_of("../x")
    ('0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f', None)
    """
    is_one = isinstance(value, str) and _UUID.fullmatch(value) is not None
    return value.lower() if is_one else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(*names: str) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, Mapping) and all(key in names and _is_number(item) for key, item in value.items())
    )


def _text(most: int) -> Field:
    return Field(lambda value: isinstance(value, str) and len(value) <= most, f"a text of at most {most:,} characters")


_ID_WORDS: Final = "an id: 1 to 100 letters, digits, '_' and '-', of which '-' does not come first"
_NODE_ID: Final = Field(is_id, _ID_WORDS, is_required=True)
_PARENT: Final = Field(is_id, _ID_WORDS)
_FLAG: Final = Field(lambda value: isinstance(value, bool), "true or false")
_NUMBER: Final = Field(_is_number, "a number")
_PLACE: Final = Field(_numbers("x", "y"), "an object of the numbers x and y")
_SIDE: Final = Field(lambda value: value in ("left", "right", "top", "bottom"), "left, right, top or bottom")
_NAME: Final = Field(lambda value: isinstance(value, str) and 0 < len(value) <= _MOST_NAME, "a name")
_OBJECT: Final = Field(lambda value: isinstance(value, Mapping), "an object")
_LIST: Final = Field(lambda value: isinstance(value, list | tuple), "a list")

DOCUMENT: Final[Mapping[str, Field]] = {
    "nodes": _LIST,
    "edges": _LIST,
    "viewport": Field(_numbers("x", "y", "zoom"), "an object of the numbers x, y and zoom"),
}
NODE: Final[Mapping[str, Field]] = {
    "id": _NODE_ID,
    "data": _OBJECT._replace(is_required=True),
    "parentId": _PARENT,
    "type": _text(_MOST_NAME),
    "position": _PLACE,
    "positionAbsolute": _PLACE,
    "measured": Field(_numbers("width", "height"), "an object of the numbers width and height"),
    "extent": Field(lambda value: value == "parent", "the text parent"),
    "sourcePosition": _SIDE,
    "targetPosition": _SIDE,
    **dict.fromkeys(("width", "height", "zIndex"), _NUMBER),
    **dict.fromkeys(("selected", "dragging", "hidden", "draggable", "selectable", "deletable"), _FLAG),
    **dict.fromkeys(("connectable", "focusable", "resizing", "expandParent"), _FLAG),
}
DATA: Final[Mapping[str, Field]] = {
    "component": _NAME._replace(is_required=True),
    "label": _text(_MOST_LABEL),
    "note": _text(_MOST_NOTE),
    "values": _OBJECT,
    "policy": _OBJECT,
}
EDGE: Final[Mapping[str, Field]] = {
    "id": _text(_MOST_LABEL),
    "source": _NODE_ID,
    "target": _NODE_ID,
    "sourceHandle": _NAME._replace(is_required=True),
    "targetHandle": _NAME._replace(is_required=True),
    "type": _text(_MOST_NAME),
    "label": _text(_MOST_LABEL),
    "zIndex": _NUMBER,
    **dict.fromkeys(("animated", "selected", "hidden", "selectable", "deletable"), _FLAG),
    **dict.fromkeys(("focusable", "reconnectable"), _FLAG),
}


def field_problems(value: Any, where: str, fields: Mapping[str, Field]) -> Iterator[Problem]:
    """Yield what is wrong with an object of certain fields. A field that may be left out may be `null`, too.

    >>> list(field_problems({"code": "1"}, "nodes[0].data", {"label": Field(bool, "true")}))
    [('nodes[0].data.code', 'flow documents hold no code')]
    """
    if not isinstance(value, Mapping):
        yield where or "document", f"{shown(value)} is not an object"
        return
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            is_code = name == "code"
            what = "flow documents hold no code" if is_code else f"there is no such field; there is {', '.join(fields)}"
            yield below(where, name), what
        elif not (field.holds(item) or (item is None and not field.is_required)):
            yield below(where, name), f"{shown(item)} is not {field.words}"
    for name, field in fields.items():
        if field.is_required and name not in value:
            yield below(where, name), f"it is missing; it must be {field.words}"
