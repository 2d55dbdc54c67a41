"""Reads the inputs of a flow from the command line: `-i key=value`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from millstream.authoring.registry import Definition
from millstream.errors import InvalidInputError

_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def texts_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return `key=value` texts as a mapping.

    Raises:
        InvalidInputError: One has another form, or a key comes twice.

    >>> texts_of(["size=5", "query=a=b"])
    {'size': '5', 'query': 'a=b'}
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"-i {pair}: write an input as key=value")
        if key in texts:
            raise InvalidInputError(f"-i {pair}: the input {key!r} is given twice")
        texts[key] = text
    return texts


def bind(definition: Definition, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a definition's inputs, converted to their types and with its defaults.

    Raises:
        InvalidInputError: An input is unknown, missing, or its text does not fit its type.
    """
    given = definition.inputs.parse(texts)
    if lacking := missing(definition, given):
        options = " ".join(f"-i {name}=…" for name in lacking)
        raise InvalidInputError(f"{definition.name} needs {options}")
    return definition.inputs.bind((), given)


def missing(definition: Definition, given: Mapping[str, Any]) -> list[str]:
    """Return the inputs that have no default and are not given."""
    return [
        name
        for name, parameter in definition.inputs.signature.parameters.items()
        if parameter.default is parameter.empty and parameter.kind not in _ANY_NUMBER and name not in given
    ]
