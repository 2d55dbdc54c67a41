"""The catalogue over HTTP."""

from __future__ import annotations

import httpx
import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from millstream.server.flows.shown_catalogue import ShownComponent
from tests.server.running import RunningServer

ALL = "/api/v1/all"


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": ["tests.server.shop"]}


def test_every_component_is_there_by_group_and_name(server: RunningServer, alice: httpx.Client) -> None:
    groups = alice.get(ALL).json()
    TypeAdapter(dict[str, dict[str, ShownComponent]]).validate_python(groups)
    told = {name: group for group, components in groups.items() for name in components}
    assert told == {component.name: component.group for component in server.site.catalogue}
    assert {"ChatInput", "ChatOutput", "Subflow", "Loop"} <= told.keys()


def test_a_users_task_is_there_with_ports_schemas_and_defaults(alice: httpx.Client) -> None:
    component = alice.get(ALL).json()["Tasks"]["tests.server.shop.price"]
    item, rebate = component["inputs"]
    assert (item["name"], item["schema"], item["is_required"]) == ("item", {"type": "string"}, True)
    assert "default" not in item
    assert (rebate["name"], rebate["default"]) == ("rebate", 0.0)


def test_every_schema_is_one_and_takes_its_own_default(alice: httpx.Client) -> None:
    for components in alice.get(ALL).json().values():
        for name, component in components.items():
            for port in component["inputs"]:
                jsonschema_rs.meta.validate(port["schema"])
                if port.get("default") is not None:
                    assert jsonschema_rs.is_valid(port["schema"], port["default"]), (name, port)


def test_who_knows_the_catalogue_gets_304(alice: httpx.Client) -> None:
    first = alice.get(ALL)
    again = alice.get(ALL, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "no-cache" in first.headers["Cache-Control"]
