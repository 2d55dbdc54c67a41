"""What a task or flow takes: its signature, checked against what is given, and the digest of its source."""

from __future__ import annotations

import hashlib
import inspect
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from millstream.engine.signatures import signature_of
from millstream.errors import InvalidInputError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Inputs:
    """The signature of one function.

    Args:
        fn: The function.
        name: What errors call it.
    """

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        """Read the signature; annotations are looked at only when they are needed."""
        self._fn = fn
        self._name = name
        self.signature = signature_of(fn)

    @cached_property
    def version(self) -> str:
        """Digest of the function's source, or of its code where there is no source."""
        try:
            source = inspect.getsource(self._fn).encode()
        except (OSError, TypeError):
            code = getattr(self._fn, "__code__", None)
            source = code.co_code + repr(code.co_consts).encode() if code else self._name.encode()
        return hashlib.sha256(source).hexdigest()

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs by name, defaults included.

        Raises:
            InvalidInputError: An input is missing, unknown or given twice; the message says what there is.
        """
        problems = self._unknown(kwargs)
        if problems:
            raise InvalidInputError(f"{self._name}: {'; '.join(problems)}")
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInputError(f"{self._name}: {error}; it takes {self.signature}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def split(self, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return bound inputs as arguments by position and by name, as few by name as can be."""
        bound = inspect.BoundArguments(self.signature, OrderedDict(inputs))
        return bound.args, bound.kwargs

    def parse(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return inputs that were written as text, each converted to its annotated type.

        A text that is JSON is read as such; a parameter annotated `str` takes the text itself.

        Raises:
            InvalidInputError: An input is unknown, or its text does not fit its type; all of them are named.
        """
        hints = self.hints()
        problems, parsed = self._unknown(texts), {}
        for key, text in texts.items():
            try:
                parsed[key] = _convert(text, hints.get(key, Any))
            except (msgspec.ValidationError, ValueError, TypeError) as error:
                problems.append(f"input {key}={text!r}: {error}")
        if problems:
            raise InvalidInputError(f"{self._name}: {'; '.join(problems)}")
        return parsed

    def _unknown(self, given: Mapping[str, Any]) -> list[str]:
        """Return a line for each input by name that the function does not take."""
        parameters = self.signature.parameters
        if given.keys() <= parameters.keys() or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return []
        known = f"it takes {self.signature}"
        return [f"there is no input {key!r}; {known}" for key in given if key not in parameters]

    def hints(self, *, extras: bool = False) -> dict[str, Any]:
        """Return the annotations by parameter, and that of the result; none where they cannot be read.

        Args:
            extras: Whether `Annotated[...]` stays as it is.
        """
        try:
            return typing.get_type_hints(self._fn, include_extras=extras)
        except (NameError, TypeError, AttributeError):
            return {}


_JSON_BEGINS = ("[", "{", '"')


def _convert(text: str, wanted: Any) -> Any:
    if wanted is str:
        return text
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if text[:1] in _JSON_BEGINS:
            raise ValueError(f"it looks like JSON, but is none ({error})") from None
        value = text
    return value if wanted is Any else msgspec.convert(value, wanted, strict=False)
