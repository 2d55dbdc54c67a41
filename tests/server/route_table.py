"""The routes that the server really has, for tests that ask the same of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, params
from fastapi.routing import iter_route_contexts

from millstream.server.access.principal import Guard

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True)
class Endpoint:
    """One method of one route.

    Attributes:
        method: The HTTP method.
        path: The template of its path.
        guards: What it asks of who calls it.
        takes_json: Whether it takes a JSON value.
    """

    method: str
    path: str
    guards: tuple[Guard, ...] = ()
    takes_json: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parameters(self) -> list[str]:
        """The names in its path."""
        return _PARAMETER.findall(self.path)

    def filled(self, values: Mapping[str, str]) -> str:
        """Return its path with values in place of the names."""
        return _PARAMETER.sub(lambda found: values[found[1]], self.path)


def endpoints(api: FastAPI) -> list[Endpoint]:
    """Return everything that can be called, from the application's own table."""
    found = []
    for route in iter_route_contexts(api.router.routes):
        body = getattr(route, "body_field", None)
        takes_json = body is not None and not isinstance(body.field_info, params.Form)
        guards = tuple(_guards(getattr(route, "dependant", None)))
        found += [
            Endpoint(method, route.path_format or "", guards, takes_json) for method in sorted(route.methods or ())
        ]
    return found


def _guards(dependant: Any) -> Iterator[Guard]:
    if dependant is None:
        return
    if isinstance(dependant.call, Guard):
        yield dependant.call
    for below in dependant.dependencies:
        yield from _guards(below)
