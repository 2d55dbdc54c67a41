"""Requests that are refused where they have what this server does not know, in the address or in the body.

What is misspelt would be left aside otherwise, and an answer would look as if it had been heeded. Routes and bodies
that clients know from elsewhere leave aside what they do not know, as those clients expect.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from millstream.server.body import JsonRoute
from millstream.server.problem import Problem

_SHOWN, _TOLD = 100, 10
"""Characters of an unknown name that are told again, and unknown names that are told of."""


class StrictRoute(JsonRoute):
    """A route that refuses query parameters it does not know (422)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request whose query parameters are all known."""
        handle = super().get_route_handler()
        known = sorted({*_parameters(self.dependant)})

        async def strict(request: Request) -> Response:
            if unknown := [name for name in request.query_params if name not in known]:
                said = _no_such("parameter", unknown, known)
                found = [{"loc": ["query", name[:_SHOWN]], "msg": said, "type": "extra_forbidden"} for name in unknown]
                raise Problem(422, said, errors=found[:_TOLD])
            return await handle(request)

        return strict


class StrictBody(BaseModel):
    """A JSON object that is refused where it has fields that there are not; the answer says which there are."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _name_fields(cls, data: Any) -> Any:
        """Refuse unknown fields with the names of the known ones, which pydantic does not tell."""
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = [name for name in data if name not in known] if isinstance(data, dict) else []
        if unknown:
            raise PydanticCustomError("extra_forbidden", "{said}", {"said": _no_such("field", unknown, known)})
        return data


def _parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of the query parameters of a route, and of all that it depends on."""
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):  # its fields are the parameters
            yield from kind.model_fields
        else:
            yield field.alias
    for inner in dependant.dependencies:
        yield from _parameters(inner)


def _no_such(what: str, unknown: Sequence[str], known: Sequence[str]) -> str:
    """Return what is said of names that there are not: what may have been meant by them, and what there is."""
    said = [f"there is no {what} {name[:_SHOWN]!r}{_hint(name, known)}" for name in unknown[:_TOLD]]
    return "; ".join([*said, f"known: {', '.join(known) or 'none'}"])


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name[:_SHOWN].lower(), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
