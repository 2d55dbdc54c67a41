"""What belongs to somebody else: on every route with an id in its path it answers as what is not there, to the byte."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from millstream.clock import new_id
from tests.server.route_table import Endpoint, endpoints
from tests.server.running import RunningServer

WAITING: dict[str, Any] = {
    "nodes": [{"id": "wait", "data": {"component": "Wait", "values": {"seconds": 3600}}}],
    "edges": [],
}
FAILING: dict[str, Any] = {
    "nodes": [{"id": "parse", "data": {"component": "JsonParse", "values": {"text": "CANARY-of-alice {"}}}],
    "edges": [],
}
SOUND: dict[str, dict[str, Any]] = {
    "PUT /api/v1/flows/{flow_id}": {"name": "mine now", "data": WAITING},
    "PUT /api/v1/projects/{project_id}": {"name": "mine now"},
    "POST /api/v1/jobs/{job_id}/approve": {"value": 1},
}
"""Bodies for routes that ask for more than an empty object."""

SUPERUSERS_OWN = ("/api/v1/users/", "/api/v1/schedules/")
"""What no user has objects of: superusers' routes, and what is answered with 501."""

MADE_BY_PUT = {"PUT /api/v1/flows/{flow_id}", "PUT /api/v1/projects/{project_id}"}
"""What makes the object where it is not there, and so cannot answer the same for one that is somebody else's."""


@pytest.fixture(scope="module")
def table(server: RunningServer) -> list[Endpoint]:
    return [one for one in endpoints(server.api) if one.parameters and not one.path.startswith(SUPERUSERS_OWN)]


def made(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json()
    return told


def belongings(owner: httpx.Client) -> dict[str, list[str]]:
    """Make one of everything, and return the ids and names by which paths speak of them."""
    project = made(owner, "/api/v1/projects/", name=f"project {new_id()}")["id"]
    flows = [
        made(owner, "/api/v1/flows/", name=f"flow {new_id()}", data=data, endpoint_name=f"e{new_id()}")
        for data in (WAITING, FAILING)
    ]
    jobs = [made(owner, f"/api/v1/build/{flow['id']}/flow", inputs={})["job_id"] for flow in flows]
    return {
        "project_id": [project],
        "flow_id": [flow["id"] for flow in flows],
        "flow_id_or_name": [flows[0]["id"], flows[0]["endpoint_name"], flows[0]["name"]],
        "job_id": jobs,
        "task_id": [*jobs, made(owner, "/run-task", duration=0)["task_id"]],
        "key_id": [made(owner, "/api/v1/api_key/", name="key")["id"]],
    }


def seen(owner: httpx.Client, ids: dict[str, list[str]]) -> list[Any]:
    """Return how an owner's flows, projects and keys are."""
    paths = [f"/api/v1/flows/{flow}" for flow in ids["flow_id"]]
    paths += [f"/api/v1/projects/{project}" for project in ids["project_id"]]
    told = [owner.get(path).json() for path in paths]
    state = owner.get(f"/api/v1/jobs/{ids['job_id'][0]}").json()["state"]
    keys = [key["id"] for key in owner.get("/api/v1/api_key/").json()["api_keys"]]
    return [told, state, ids["key_id"][0] in keys]


def unlike(name: str) -> str:
    """Return an id or a name that is as long, and of nothing."""
    return new_id() if re.fullmatch(r"[0-9a-f-]{36}", name) else f"x{name[1:-1]}x"


def answered(client: httpx.Client, endpoint: Endpoint, name: str) -> tuple[int, str, dict[str, str]]:
    """Return all of an answer but the name that was asked for, and the time."""
    body = SOUND.get(str(endpoint), {}) if endpoint.takes_json or endpoint.method == "POST" else None
    path = endpoint.filled(dict.fromkeys(endpoint.parameters, name))
    answer = client.request(endpoint.method, path, json=body)
    headers = {key: value for key, value in answer.headers.items() if key != "date"}
    return answer.status_code, json.dumps(answer.text).replace(name, "NAME"), headers


def test_what_is_somebody_elses_answers_as_what_is_not_there(
    alice: httpx.Client, bob: httpx.Client, table: list[Endpoint]
) -> None:
    ids = belongings(alice)
    before = seen(alice, ids)
    for endpoint in table:
        (parameter,) = endpoint.parameters
        for name in ids[parameter]:
            foreign = answered(bob, endpoint, name)
            assert foreign[0] == 404, f"{endpoint} {name}: {foreign}"
            if str(endpoint) not in MADE_BY_PUT:
                assert foreign == answered(bob, endpoint, unlike(name)), str(endpoint)
            assert "CANARY-of-alice" not in foreign[1]
    assert seen(alice, ids) == before


@pytest.mark.parametrize("name", ["*", "%25", "~", "%2e%2e", "%27%20OR%201=1--"])
def test_no_wildcard_finds_anything(alice: httpx.Client, bob: httpx.Client, table: list[Endpoint], name: str) -> None:
    belongings(alice)
    for endpoint in table:
        if endpoint.method == "DELETE" or str(endpoint) in MADE_BY_PUT:
            continue
        path = endpoint.filled(dict.fromkeys(endpoint.parameters, name))
        body: dict[str, Any] | None = {} if endpoint.takes_json or endpoint.method == "POST" else None
        for client in (alice, bob):
            answer = client.request(endpoint.method, path, json=body)
            assert answer.status_code in {404, 405, 422}, f"{endpoint}: {answer.status_code} {answer.text[:200]}"


def test_a_list_shows_nobody_elses(alice: httpx.Client, bob: httpx.Client) -> None:
    ids = belongings(alice)
    every = {name for names in ids.values() for name in names}
    for path in ("/api/v1/flows/", "/api/v1/projects/", "/api/v1/jobs", "/api/v1/api_key/"):
        told = bob.get(path).text
        assert not [name for name in every if name in told], path


def test_only_the_owner_is_told_how_a_node_failed(alice: httpx.Client, bob: httpx.Client) -> None:
    flow = made(alice, "/api/v1/flows/", name=f"flow {new_id()}", data=FAILING)["id"]
    failed = alice.post(f"/api/v1/run/{flow}?stream=false", json={"input_value": ""})
    assert failed.status_code == 500
    assert failed.headers["Content-Type"] == "application/problem+json"
    assert "parse" in failed.text
    for answer in (
        bob.post(f"/api/v1/run/{flow}?stream=false", json={"input_value": ""}),
        bob.get("/api/v1/jobs?state=failed"),
        bob.get(f"/api/v1/jobs?flow={flow}"),
    ):
        assert not re.search(r'Traceback|File \\"|/src/|site-packages', answer.text)
        assert "CANARY-of-alice" not in answer.text
