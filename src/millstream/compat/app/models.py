"""`pydantic=True`: arguments become models before the task runs, and a model that it returns becomes plain data."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

from millstream.compat.exceptions import ImproperlyConfigured
from millstream.engine.signatures import signature_of


class Models:
    """The models among the arguments and the result of one function.

    Args:
        fn: The function.
        binds: Whether it takes the task first.
        strict: Refuse values that would have to be converted.
        context: What validators get as `info.context`, beside the app and the task's name.
        dump: How models are written down: what `model_dump` takes; `mode="json"` unless it says otherwise.

    Raises:
        ImproperlyConfigured: pydantic is not installed.
    """

    def __init__(
        self, fn: Callable[..., Any], *, binds: bool, strict: bool, context: Mapping[str, Any], dump: Mapping[str, Any]
    ) -> None:
        try:
            from pydantic import BaseModel  # noqa: PLC0415  only who asks for models pays for it
        except ImportError as error:
            raise ImproperlyConfigured("pydantic=True needs pydantic: pip install pydantic") from error
        self._base: Final = BaseModel
        self._fn = fn
        self._strict = strict
        self._context = dict(context)
        self._dump = {"mode": "json", **dump}
        parameters = list(signature_of(fn).parameters.values())
        self._signature = inspect.Signature(parameters[1:] if binds else parameters)
        self._hints: dict[str, Any] | None = None

    def _model(self, name: str) -> Any:
        """Return the model that a parameter, or `return`, is annotated with; `None` for any other annotation."""
        if self._hints is None:
            try:
                self._hints = typing.get_type_hints(self._fn)
            except (NameError, AttributeError, TypeError):
                signature = signature_of(self._fn)
                self._hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}
                self._hints["return"] = signature.return_annotation
        hint = self._hints.get(name)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            rest = [inner for inner in typing.get_args(hint) if inner is not type(None)]
            hint = rest[0] if len(rest) == 1 else None
        return hint if isinstance(hint, type) and issubclass(hint, self._base) else None

    def taken(self, args: tuple[Any, ...], kwargs: dict[str, Any], **context: Any) -> tuple[tuple[Any, ...], Any]:
        """Return arguments with a validated model wherever a parameter is annotated with one.

        Raises:
            ValidationError: A value does not fit; pydantic's.
        """
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            model = self._model(name)
            if model is not None and value is not None:
                bound.arguments[name] = model.model_validate(
                    value, strict=self._strict, context={**self._context, **context}
                )
        return bound.args, bound.kwargs

    def given(self, value: Any) -> Any:
        """Return what the task returned, as plain data where it is the model that the function is annotated with."""
        model = self._model("return")
        return value.model_dump(**self._dump) if model is not None and isinstance(value, model) else value

    def plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a call's arguments with plain data in place of models, so that they can be written down."""
        return tuple(self._written(value) for value in args), {key: self._written(v) for key, v in kwargs.items()}

    def _written(self, value: Any) -> Any:
        return value.model_dump(**self._dump) if isinstance(value, self._base) else value


def with_models(fn: Callable[..., Any], models: Models, *, binds: bool, **context: Any) -> Callable[..., Any]:
    """Return a function that validates the arguments of another, and writes down the model that it returns."""

    def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = args[:1] if binds else ()
        rest, named = models.taken(args[len(first) :], kwargs, **context)
        return (*first, *rest), named

    if inspect.iscoroutinefunction(fn):

        @wraps(fn)
        async def validated_async(*args: Any, **kwargs: Any) -> Any:
            taken, named = split(args, kwargs)
            return models.given(await fn(*taken, **named))

        return validated_async

    @wraps(fn)
    def validated(*args: Any, **kwargs: Any) -> Any:
        taken, named = split(args, kwargs)
        return models.given(fn(*taken, **named))

    return validated
