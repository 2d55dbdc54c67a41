"""Checks values against the JSON schemas of ports: the part of JSON Schema that annotations of parameters come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from millstream.authoring.documents.plain import below, shown

_Schema = Mapping[str, Any]

_KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "string": (lambda value: isinstance(value, str), "text"),
    "integer": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "number": (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "object": (lambda value: isinstance(value, Mapping), "an object"),
    "array": (lambda value: isinstance(value, list | tuple), "a list"),
    "null": (lambda value: value is None, "null"),
}
_BOUNDS: Final[tuple[tuple[str, Callable[[Any, Any], bool], str], ...]] = (
    ("minimum", lambda value, bound: value >= bound, "{bound} or more"),
    ("maximum", lambda value, bound: value <= bound, "{bound} or less"),
    ("exclusiveMinimum", lambda value, bound: value > bound, "more than {bound}"),
    ("exclusiveMaximum", lambda value, bound: value < bound, "less than {bound}"),
)
_LENGTHS: Final[tuple[tuple[str, Callable[[int, int], bool], str], ...]] = (
    ("minLength", lambda size, bound: size >= bound, "at least {bound} characters"),
    ("maxLength", lambda size, bound: size <= bound, "at most {bound} characters"),
    ("minItems", lambda size, bound: size >= bound, "at least {bound} items"),
    ("maxItems", lambda size, bound: size <= bound, "at most {bound} items"),
)


def mismatch(value: Any, schema: _Schema) -> str | None:
    """Return what is wrong with a value, in a sentence; `None` where it fits. Keywords that are not known fit.

    Args:
        value: The value, which holds to the limits of documents.
        schema: The schema; references point into its own `$defs`.

    >>> mismatch(0, {"type": "integer", "minimum": 1})
    '0 is not 1 or more'
    >>> mismatch(["a", 1], {"type": "array", "items": {"type": "string"}})
    '[1]: 1 is not text'
    """
    return _mismatch(value, schema, schema.get("$defs", {}))


def _mismatch(value: Any, schema: _Schema, known: Mapping[str, _Schema]) -> str | None:
    for _ in known:  # a reference may lead to another one, but not for ever
        if "$ref" not in schema:
            break
        schema = known.get(schema["$ref"].rpartition("/")[2], {})
    if choices := schema.get("anyOf"):
        found = [_mismatch(value, choice, known) for choice in choices]
        return None if None in found else next(filter(None, found[:1]), None)
    is_one, words = _KINDS.get(schema.get("type", ""), (None, ""))
    if is_one is not None and not is_one(value):
        return f"{shown(value)} is not {words}"
    allowed = schema.get("enum", (schema["const"],) if "const" in schema else None)
    if allowed is not None and not any(value == one and type(value) is type(one) for one in allowed):
        return f"{shown(value)} is none of {', '.join(shown(one) for one in allowed)}"
    return _out_of_bounds(value, schema) or _mismatch_inside(value, schema, known)


def _out_of_bounds(value: Any, schema: _Schema) -> str | None:
    if isinstance(value, int | float):
        for keyword, holds, words in _BOUNDS:
            if keyword in schema and not holds(value, schema[keyword]):
                return f"{shown(value)} is not {words.format(bound=schema[keyword])}"
    if isinstance(value, str | list | tuple):
        for keyword, is_long, words in _LENGTHS:
            is_meant = keyword.endswith("Length") == isinstance(value, str)
            if is_meant and keyword in schema and not is_long(len(value), schema[keyword]):
                return f"it has not {words.format(bound=schema[keyword])}, but {len(value)}"
    return None


def _mismatch_inside(value: Any, schema: _Schema, known: Mapping[str, _Schema]) -> str | None:
    """Return the first thing that is wrong with an item of a list, or a member of an object."""
    parts: Iterable[tuple[str | int, Any, _Schema]] = ()
    if isinstance(value, list | tuple) and isinstance(schema.get("items"), Mapping):
        parts = ((index, item, schema["items"]) for index, item in enumerate(value))
    elif isinstance(value, Mapping):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{shown(name)} is missing"
        members, others = schema.get("properties", {}), schema.get("additionalProperties")
        rest = others if isinstance(others, Mapping) else {}
        parts = ((key, item, members.get(key, rest)) for key, item in value.items())
    for key, item, expected in parts:
        if what := _mismatch(item, expected, known):
            return f"{below('', key)}: {what}".replace(": [", "[")
    return None
