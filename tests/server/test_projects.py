"""Projects over HTTP: folders of flows, with versions, that leave and come in as one archive."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from uuid import uuid4

import httpx
import pytest

from millstream.server.flows.shapes import ShownProject
from tests.server.flow_cases import ECHO

PROJECTS = "/api/v1/projects/"
FLOWS = "/api/v1/flows/"


def made(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Make a project, and return it."""
    answer = client.post(PROJECTS, json={"name": f"project {uuid4()}"} | fields)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    ShownProject.model_validate(told)
    return told


def test_a_project_is_shown_as_it_was_made(alice: httpx.Client) -> None:
    project = made(alice, description="What goes out on Mondays.", flows_list=[], components_list=[])
    shown = alice.get(PROJECTS + project["id"])
    assert (shown.json(), project["version"]) == (project, 1)
    assert alice.get(PROJECTS + project["id"], headers={"If-None-Match": shown.headers["ETag"]}).status_code == 304


def test_a_name_that_is_taken_gets_a_number(alice: httpx.Client, bob: httpx.Client) -> None:
    names = [made(client, name="Same")["name"] for client in (alice, alice, bob)]
    assert names == ["Same", "Same (1)", "Same"]


def test_projects_are_listed_once_page_by_page(bob: httpx.Client) -> None:
    mine = {made(bob)["id"] for _ in range(5)}
    found, url = [], f"{PROJECTS}?limit=2"
    while url:
        answer = bob.get(url)
        assert len(answer.json()) <= 2
        found += [project["id"] for project in answer.json()]
        url = answer.links["next"]["url"] if answer.links else ""
    assert mine <= set(found)
    assert len(found) == len(set(found))


def test_a_project_is_changed_replaced_and_made_under_an_id(alice: httpx.Client) -> None:
    project = made(alice)
    url = PROJECTS + project["id"]
    changed = alice.patch(url, json={"description": "new"})
    assert (changed.json()["name"], changed.json()["description"]) == (project["name"], "new")
    put = alice.put(url, json={"name": f"put {uuid4()}"})
    assert (put.status_code, put.json()["version"], put.json()["description"]) == (200, 3, "")
    other = str(uuid4())
    assert alice.put(PROJECTS + other, json={"name": other}).status_code == 201
    assert alice.patch(url, json={"name": other}).status_code == 409


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_a_change_to_an_older_version_is_412(alice: httpx.Client, method: str) -> None:
    url = PROJECTS + made(alice)["id"]
    old = alice.get(url).headers["ETag"]
    now = alice.patch(url, json={"description": "new"})
    body = None if method == "DELETE" else {"name": f"{method} {uuid4()}"}
    assert alice.request(method, url, json=body, headers={"If-Match": old}).status_code == 412
    assert alice.get(url).json() == now.json()
    assert alice.request(method, url, json=body, headers={"If-Match": now.headers["ETag"]}).is_success


def test_a_project_that_is_deleted_leaves_its_flows(alice: httpx.Client) -> None:
    project = made(alice)
    flow = alice.post(FLOWS, json={"name": "stays", "data": ECHO, "project_id": project["id"]}).json()
    assert alice.delete(PROJECTS + project["id"]).status_code == 204
    assert alice.get(PROJECTS + project["id"]).status_code == 404
    assert alice.get(FLOWS + flow["id"]).json()["project_id"] is None


def test_a_project_leaves_and_comes_in_as_one_archive(alice: httpx.Client, bob: httpx.Client) -> None:
    project = made(alice, name="Weekly")
    for name in ("one", "two", "a/b", "a_b"):
        alice.post(FLOWS, json={"name": name, "data": ECHO, "project_id": project["id"]})
    archive = alice.get(f"{PROJECTS}download/{project['id']}")
    assert archive.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Weekly.zip"
    names = zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert names == ["one.json", "two.json", "a_b.json", "a_b (1).json"]
    told = bob.post(f"{PROJECTS}upload/", files={"file": ("Weekly.zip", archive.content)})
    assert (told.status_code, {flow["name"] for flow in told.json()}) == (201, {"one", "two", "a/b", "a_b"})
    (project_id,) = {flow["project_id"] for flow in told.json()}
    assert bob.get(PROJECTS + project_id).json()["name"] == "Weekly"


def test_an_upload_with_a_wrong_flow_makes_no_project(bob: httpx.Client) -> None:
    wrong = b'{"name": "wrong", "data": {"nodes": [{"id": "a", "data": {"component": "NoSuch"}}], "edges": []}}'
    answer = bob.post(f"{PROJECTS}upload/", files={"file": ("Wrong.json", wrong)})
    assert answer.status_code == 422
    assert "Wrong" not in {project["name"] for project in bob.get(f"{PROJECTS}?limit=1000").json()}
