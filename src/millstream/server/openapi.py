"""The OpenAPI document: what FastAPI finds out by itself, and what holds for all routes: problems and credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from millstream.server.access.public import PUBLIC
from millstream.server.examples import EXAMPLES, LINES, Example
from millstream.server.strict import StrictRoute

_ABOUT: Final = """Build, run and look after flows.

Every error is answered with `application/problem+json` (RFC 9457); its `detail` is one sentence that says what was
wrong, and `errors` has each part that was, with its place. Lists go page by page: the header `Link` has the address of
the next page. What changes has an `ETag`; a change with `If-Match` is made to that version only.
"""

_PROBLEM: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What is wrong.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence: what is wrong, and what to do."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "errors": {
            "type": "array",
            "description": "Each part of what was sent that is wrong, with its place.",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
    "examples": [
        {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "Flow with id 0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f not found",
            "instance": "/api/v1/flows/0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f",
        }
    ],
}

_SECURITY: Final[dict[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "description": "The `access_token` of a sign-in."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "A key of one's own."},
}

_WORDS: Final = {
    "400": "What was sent cannot be read.",
    "401": "Who makes the request has not said who they are.",
    "403": "Who makes the request may not do this.",
    "404": "There is no such thing, or it is somebody else's.",
    "412": "The version that the request names is not the present one.",
    "413": "What was sent is too large.",
    "415": "What was sent is not of a type that is taken.",
    "422": "What was sent is not valid; `errors` says where.",
    "default": "What else went wrong.",
}


def name_of(route: APIRoute) -> str:
    """Return the id of a route's operation, by which generated clients call it: `jobs_cancel` is `cancel` in `jobs`."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}"


def document(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application; it is made once."""
    if api.openapi_schema is None:
        made = get_openapi(title=api.title, version=api.version, description=_ABOUT, routes=api.routes)
        for method, path, route in routes(api):
            if operation := made["paths"].get(path, {}).get(method.lower()):
                _complete(operation, method, path, route)
        components = made.setdefault("components", {})
        components["schemas"] = {
            name: schema
            for name, schema in components.get("schemas", {}).items()
            if name not in ("HTTPValidationError", "ValidationError")
        } | {"Problem": _PROBLEM}
        components["securitySchemes"] = _SECURITY
        api.openapi_schema = made
    return api.openapi_schema


def routes(api: FastAPI) -> Iterator[tuple[str, str, RouteContext]]:
    """Yield every route of an application: method, path template, and the route."""
    for route in iter_route_contexts(api.router.routes):
        for method in sorted(route.methods or ()):
            yield method, route.path_format or "", route


def scope_of(route: RouteContext) -> str | None:
    """Return what an API key has to be good for to call a route; `None` where any will do."""
    return next((scope for call in _calls(route.dependant) if (scope := getattr(call, "scope", None))), None)


def _calls(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _show(operation: dict[str, Any], example: Example) -> None:
    """Put an example into an operation."""
    for media in operation.get("requestBody", {}).get("content", {}).values() if example.sent is not None else ():
        media["example"] = example.sent
    content = operation["responses"][str(example.status)].setdefault("content", {})
    if example.streams:
        content.clear()
        content.update({kind: {"schema": {"type": "string"}} for kind in example.streams})
        content[LINES]["example"] = f"{json.dumps(example.told)}\n"
    elif example.told is not None:
        content["application/json"]["example"] = example.told


def _complete(operation: dict[str, Any], method: str, path: str, route: RouteContext) -> None:
    is_public = (method, path) in PUBLIC
    scope = scope_of(route)
    if not is_public:
        operation["security"] = [{"token": []}, {"apiKey": []}]
    if scope is not None:
        operation["x-scope"] = scope
    if example := EXAMPLES.get(operation["operationId"]):
        _show(operation, example)
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    statuses = {
        "400": "requestBody" in operation or "cursor" in names,
        "401": not is_public,
        "403": scope is not None,
        "404": "{" in path,
        "412": "if-match" in {name.lower() for name in names},
        "413": "requestBody" in operation,
        "415": "requestBody" in operation,
        "422": bool(names) or "requestBody" in operation or isinstance(route.original_route, StrictRoute),
        "default": True,
    }
    for status, is_due in statuses.items():
        if is_due:
            operation["responses"][status] = {
                "description": _WORDS[status],
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
