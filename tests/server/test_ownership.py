"""Nobody can tell what is somebody else's from what is not there, and a key does what it is good for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import APIRoute

from millstream.clock import new_id
from millstream.ledger.accounts import ApiKey
from millstream.server.access.tokens import digest_of, new_token, written_key
from millstream.server.routes import flows, projects
from millstream.server.site import Site
from tests.server.flow_cases import ECHO
from tests.server.running import RunningServer

ROUTES = [
    (method, route.path)
    for router in (flows.router, flows.uploads, projects.router, projects.uploads)
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods or ())
]
OF_ONE = [(method, path) for method, path in ROUTES if "{" in path]
WRITES = [(method, path) for method, path in ROUTES if method != "GET" and not path.endswith("/download/")]
_BODIES: dict[str, Any] = {"PATCH": {"description": "changed"}, "PUT": {"name": "changed", "data": ECHO}}
_UNTOLD = {"date"}


def ids_of(client: httpx.Client) -> dict[str, str]:
    """Make a flow in a project, and return their ids by the names that paths have for them."""
    project = client.post("/api/v1/projects/", json={"name": f"p {uuid4()}"}).json()["id"]
    flow = client.post("/api/v1/flows/", json={"name": f"f {uuid4()}", "data": ECHO, "project_id": project}).json()[
        "id"
    ]
    return {"flow_id": flow, "project_id": project}


def told(client: httpx.Client, method: str, path: str, ids: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """Send a request for an object, and return all of the answer but its id and the time."""
    answer = client.request(method, path.format(**ids), json=_BODIES.get(method))
    headers = {name: value for name, value in answer.headers.items() if name not in _UNTOLD}
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, name)
    return answer.status_code, text, headers


@pytest.mark.parametrize(("method", "path"), OF_ONE)
def test_what_is_somebody_elses_answers_as_what_is_not_there(
    alice: httpx.Client, bob: httpx.Client, method: str, path: str
) -> None:
    ids = ids_of(alice)
    before = [
        alice.get(f"/api/v1/flows/{ids['flow_id']}").json(),
        alice.get(f"/api/v1/projects/{ids['project_id']}").json(),
    ]
    foreign = told(bob, method, path, ids)
    assert foreign[0] == 404
    if method != "PUT":  # which would make what is not there
        assert foreign == told(bob, method, path, {name: str(uuid4()) for name in ids})
    else:
        assert foreign == told(bob, "PATCH", path, {name: str(uuid4()) for name in ids})
    after = [
        alice.get(f"/api/v1/flows/{ids['flow_id']}").json(),
        alice.get(f"/api/v1/projects/{ids['project_id']}").json(),
    ]
    assert after == before


@pytest.mark.parametrize(("method", "path"), OF_ONE)
def test_what_is_no_id_is_422_or_404(alice: httpx.Client, method: str, path: str) -> None:
    for wrong in ("~", "*", "%25", "x", "0", "..%2f", "echo", "%00", "%C3%A9", "None"):
        url = path.format(flow_id=wrong, project_id=wrong)
        answer = alice.request(method, url, json=_BODIES.get(method))
        assert answer.status_code in (404, 405, 422), (wrong, answer.text)


def test_lists_have_ones_own_only(alice: httpx.Client, bob: httpx.Client) -> None:
    ids = ids_of(alice)
    project = ids["project_id"]
    for path in ("/api/v1/flows/?limit=1000", "/api/v1/projects/?limit=1000", f"/api/v1/flows/?project_id={project}"):
        text = bob.get(path).text
        assert not [value for value in ids.values() if value in text]


def test_a_superuser_sees_and_changes_everybodys(admin: httpx.Client, alice: httpx.Client) -> None:
    ids = ids_of(alice)
    url = f"/api/v1/flows/{ids['flow_id']}"
    owner = alice.get(url).json()["user_id"]
    put = admin.put(url, json={"name": f"by admin {uuid4()}", "data": ECHO})
    assert (put.status_code, put.json()["user_id"]) == (200, owner)
    assert alice.get(url).json() == put.json()


@pytest.fixture
def with_key(server: RunningServer) -> Callable[..., httpx.Client]:
    """Makes clients with an API key of alice's that is good for these scopes."""

    def client(*scopes: str) -> httpx.Client:
        secret, key_id = new_token(), new_id()

        async def add(site: Site) -> None:
            user = await site.accounts.user_named("alice")
            assert user is not None
            key = ApiKey(
                id=key_id, user=user.id, name="k", digest=digest_of(secret), scopes=scopes, created_at=site.clock.now()
            )
            await site.accounts.add_key(key)

        server.do(add)
        return httpx.Client(base_url=server.url, headers={"x-api-key": written_key(key_id, secret)}, timeout=120)

    return client


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_key_that_is_good_for_reading_is_403_on_every_write(
    with_key: Callable[..., httpx.Client], alice: httpx.Client, method: str, path: str
) -> None:
    ids = ids_of(alice)
    with with_key("flows:read") as reader:
        file = {"file": ("f.json", json.dumps({"name": "x"}).encode())} if path.endswith("/upload/") else None
        body = None if file else {"name": "x"}
        answer = reader.request(method, path.format(**ids), json=body, files=file)
        assert answer.status_code == 403, answer.text
        assert reader.get(f"/api/v1/flows/{ids['flow_id']}").status_code == 200


def test_a_key_that_is_good_for_something_else_is_403_on_every_route(
    with_key: Callable[..., httpx.Client], alice: httpx.Client
) -> None:
    ids = ids_of(alice)
    with with_key("jobs:read") as other:
        for method, path in (*ROUTES, ("GET", "/api/v1/all")):
            assert other.request(method, path.format(**ids), json=_BODIES.get(method)).status_code == 403, path
