"""The OpenAPI document says of every operation what it does, what to send, and what can go wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from millstream.server.assemble import create_app
from millstream.server.examples import EXAMPLES
from millstream.server.openapi import document
from millstream.settings import Settings

DOCUMENT = document(create_app(Settings()))
BY_PLACE = {
    f"{method.upper()} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
OPERATIONS = [pytest.param(operation, id=place) for place, operation in BY_PLACE.items()]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema itself, where it is only named."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def examples_of(media: dict[str, Any]) -> list[Any]:
    """Return the examples of what is sent or told: its own, those of its schema, or of what its schema is made of."""
    if "example" in media:
        return [media["example"]]
    if "examples" in media:
        return [example["value"] for example in media["examples"].values()]
    return _examples(media.get("schema", {}))


def _examples(schema: dict[str, Any]) -> list[Any]:
    schema = resolved(schema)
    if "examples" in schema:
        return list(schema["examples"])
    for choice in schema.get("anyOf", schema.get("oneOf", ())):
        if found := _examples(choice):
            return found
    if schema.get("type") == "array":
        return [[example] for example in _examples(schema.get("items", {}))]
    if isinstance(schema.get("additionalProperties"), dict):
        return [{"name": example} for example in _examples(schema["additionalProperties"])]
    properties = schema.get("properties", {})
    parts = {name: part["examples"][0] for name, part in properties.items() if "examples" in part}
    required = set(schema.get("required", properties))
    return [parts] if parts and required <= parts.keys() else []


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is sent to an operation, and what it tells where all goes well."""
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"request {kind}", media
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            for kind, media in response.get("content", {}).items():
                yield f"{status} {kind}", media


def test_the_document_is_one() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in BY_PLACE.values()]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_says_what_it_does(operation: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{2,40}", operation["operationId"])
    assert operation["summary"]
    assert operation["description"].endswith((".", "`", ")"))
    assert len(operation["tags"]) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_tells_its_problems(operation: dict[str, Any]) -> None:
    told = operation["responses"]
    assert told["default"]["content"].keys() == {"application/problem+json"}
    for status, response in told.items():
        if status.startswith(("4", "5")):
            assert response["content"].keys() == {"application/problem+json"}, status
    if "security" in operation:
        assert "401" in told
    if operation.get("parameters") or "requestBody" in operation or operation["tags"] == ["processes"]:
        assert "422" in told


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_body_has_an_example_that_fits(operation: dict[str, Any]) -> None:
    for what, media in bodies(operation):
        if "json" not in what:
            continue
        examples = examples_of(media)
        assert examples, f"{what} has no example"
        schema = {**media.get("schema", {}), "components": DOCUMENT["components"]}
        for example in examples:
            jsonschema_rs.validate(schema, example)


def test_every_example_belongs_to_an_operation() -> None:
    assert EXAMPLES.keys() <= {operation["operationId"] for operation in BY_PLACE.values()}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_parameter_is_described_or_named_for_what_it_is(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        assert parameter["in"] == "path" or parameter.get("description"), parameter["name"]
