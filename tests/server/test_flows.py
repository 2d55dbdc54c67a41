"""Flows over HTTP: kept, listed, changed, deleted, with versions; and the Python flows of the app beside them."""

from __future__ import annotations

import json
import threading
import zipfile
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jsonschema_rs import validator_for

from millstream.server.flows.shapes import ShownFlow, ShownPythonFlow, ShownSummary
from tests.server.flow_cases import ECHO, calling
from tests.server.running import RunningServer

FLOWS = "/api/v1/flows/"


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": ["tests.server.shop"]}


def kept(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Keep a flow, and return it."""
    answer = client.post(FLOWS, json={"name": f"flow {uuid4()}", "data": ECHO} | fields)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def listed(client: httpx.Client, query: str = "") -> list[dict[str, Any]]:
    """Follow a list to its end."""
    found, url = [], f"{FLOWS}?{query}"
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        found += answer.json()
        url = answer.links["next"]["url"] if answer.links else ""
    return found


# ------------------------------------------------------------------------------------------------- keeping and looking
def test_a_flow_is_kept_and_shown_as_it_was_given(alice: httpx.Client) -> None:
    answer = alice.post(FLOWS, json={"name": "Echo", "description": "Says it again.", "data": ECHO})
    assert answer.status_code == 201
    made = answer.json()
    ShownFlow.model_validate(made)
    assert (made["name"], made["description"], made["data"], made["version"]) == ("Echo", "Says it again.", ECHO, 1)
    shown = alice.get(answer.headers["Location"])
    assert (shown.json(), shown.headers["ETag"]) == (made, answer.headers["ETag"])


def test_a_flow_without_a_document_has_an_empty_one(alice: httpx.Client) -> None:
    documents: list[dict[str, Any]] = [{}, {"data": None}, {"data": {"nodes": [], "edges": []}}]
    for given in documents:
        answer = alice.post(FLOWS, json={"name": f"empty {uuid4()}"} | given)
        assert (answer.status_code, answer.json().get("data")) == (201, {"nodes": [], "edges": []}), answer.text


def test_a_name_that_is_taken_gets_a_number(alice: httpx.Client, bob: httpx.Client) -> None:
    names = [kept(alice, name="Twice")["name"] for _ in range(3)]
    assert names == ["Twice", "Twice (1)", "Twice (2)"]
    assert kept(bob, name="Twice")["name"] == "Twice", "names are each user's own"


def test_an_endpoint_name_or_an_id_that_is_taken_is_409(alice: httpx.Client) -> None:
    first = kept(alice, endpoint_name="taken")
    for same in ({"endpoint_name": "taken"}, {"id": first["id"]}):
        answer = alice.post(FLOWS, json={"name": "other", "data": ECHO} | same)
        assert answer.status_code == 409
        assert next(iter(same.values())) in answer.json()["detail"]


def test_fields_of_other_versions_are_ignored_in_the_envelope(alice: httpx.Client) -> None:
    made = kept(alice, icon="Braces", tags=["a"], is_component=False, gradient="2", folder_id=str(uuid4()))
    assert "icon" not in made


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "body.name"),
        ({"name": None}, "body.name"),
        ({"name": "x" * 256}, "body.name"),
        ({"endpoint_name": "a/b"}, "body.endpoint_name"),
        ({"id": "7"}, "body.id"),
        ({"data": []}, "body.data"),
    ],
)
def test_an_envelope_that_is_wrong_is_422_and_the_place_is_told(
    alice: httpx.Client, change: dict[str, Any], where: str
) -> None:
    answer = alice.post(FLOWS, json={"name": "wrong", "data": ECHO} | change)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert where in answer.json()["detail"]


def test_a_document_that_cannot_run_is_422_with_every_problem_and_nothing_is_kept(alice: httpx.Client) -> None:
    wrong = {
        "nodes": [
            {"id": "a", "data": {"component": "ChatInput", "code": "import os"}},
            {"id": "b", "data": {"component": "NoSuch"}},
        ],
        "edges": [{"source": "a", "target": "c", "sourceHandle": "message", "targetHandle": "input_value"}],
    }
    before = listed(alice, "header_flows=true")
    answer = alice.post(FLOWS, json={"name": "wrong", "data": wrong})
    told = answer.json()
    assert answer.status_code == 422
    assert len(told["errors"]) >= 3
    assert all(problem["loc"] and problem["msg"] for problem in told["errors"])
    assert {"code", "NoSuch"} <= {word for word in ("code", "NoSuch") if word in told["detail"]}
    assert listed(alice, "header_flows=true") == before


def test_a_subflow_is_found_among_ones_own_flows_only(alice: httpx.Client, bob: httpx.Client) -> None:
    inner = kept(alice)
    assert kept(alice, data=calling(inner["id"]))["version"] == 1
    answer = bob.post(FLOWS, json={"name": "calls", "data": calling(inner["id"])})
    unknown = bob.post(FLOWS, json={"name": "calls", "data": calling(str(uuid4()))})
    assert (answer.status_code, unknown.status_code) == (422, 422)


# -------------------------------------------------------------------------------------------------------------- lists
def test_the_list_has_every_flow_once_page_by_page_while_others_are_added(bob: httpx.Client) -> None:
    mine = {kept(bob)["id"] for _ in range(7)}
    first = bob.get(f"{FLOWS}?limit=3&header_flows=true")
    assert len(first.json()) == 3
    kept(bob)
    rest = listed(bob, httpx.URL(first.links["next"]["url"]).query.decode())
    ids = [flow["id"] for flow in first.json() + rest]
    assert mine <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_list_is_answered_whatever_is_deleted_meanwhile(server: RunningServer, bob: httpx.Client) -> None:
    made = [kept(bob)["id"] for _ in range(40)]
    statuses: set[int] = set()

    def look() -> None:
        with httpx.Client(base_url=server.url, headers=bob.headers, timeout=120) as own:
            while made:
                statuses.add(own.get(FLOWS).status_code)

    reader = threading.Thread(target=look)
    reader.start()
    while made:
        bob.delete(FLOWS + made[-1])
        made.pop()
    reader.join()
    assert statuses == {200}


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_python_flows_come_last_with_the_schema_of_their_inputs_and_are_read_only(
    alice: httpx.Client, limit: int
) -> None:
    kept(alice)
    *_, last = listed(alice, f"limit={limit}")
    ShownPythonFlow.model_validate(last)
    assert (last["name"], last["description"]) == ("tests.server.shop.order", "Add up what an order costs.")
    takes = validator_for(last["inputs"])
    assert takes.is_valid({"items": ["apple"]})
    assert not takes.is_valid({"items": 7})
    assert not takes.is_valid({"rebate": 0.5})
    assert alice.get(FLOWS + last["id"]).json() == last
    for answer in (
        alice.patch(FLOWS + last["id"], json={"name": "x"}),
        alice.put(FLOWS + last["id"], json={"name": "x"}),
        alice.delete(FLOWS + last["id"]),
    ):
        assert (answer.status_code, "tests.server.shop.order" in answer.json()["detail"]) == (403, True)


def test_a_list_has_documents_unless_only_headers_are_asked_for(alice: httpx.Client) -> None:
    made = kept(alice)
    whole = {flow["id"]: flow for flow in listed(alice)}
    heads = {flow["id"]: flow for flow in listed(alice, "header_flows=true")}
    assert whole[made["id"]] == made
    assert heads[made["id"]] == {name: value for name, value in made.items() if name != "data"}
    ShownSummary.model_validate(heads[made["id"]])


def test_a_list_of_one_project_has_its_flows_only(alice: httpx.Client) -> None:
    project = alice.post("/api/v1/projects/", json={"name": "Reports"}).json()
    inside = kept(alice, project_id=project["id"])
    kept(alice)
    assert [flow["id"] for flow in listed(alice, f"project_id={project['id']}")] == [inside["id"]]
    assert listed(alice, f"project_id={uuid4()}") == []


def test_a_flow_in_a_project_of_somebody_else_is_404(alice: httpx.Client, bob: httpx.Client) -> None:
    project = alice.post("/api/v1/projects/", json={"name": "Mine"}).json()
    assert bob.post(FLOWS, json={"name": "x", "project_id": project["id"]}).status_code == 404


# ------------------------------------------------------------------------------------------------------------- owners
@pytest.mark.parametrize("path", [FLOWS, "/api/v1/projects/"])
def test_a_put_of_what_is_somebody_elses_answers_as_a_change_of_what_is_not_there(
    alice: httpx.Client, bob: httpx.Client, path: str
) -> None:
    mine, absent = alice.post(path, json={"name": f"mine {uuid4()}"}).json(), str(uuid4())
    put = bob.put(path + mine["id"], json={"name": "taken"})
    patch = bob.patch(path + absent, json={"name": "taken"})
    assert put.status_code == patch.status_code == 404
    assert put.text.replace(mine["id"], "ID") == patch.text.replace(absent, "ID")
    assert alice.get(path + mine["id"]).json() == mine


def test_the_flows_in_a_project_of_somebody_else_are_not_listed(alice: httpx.Client, bob: httpx.Client) -> None:
    project = alice.post("/api/v1/projects/", json={"name": f"p {uuid4()}"}).json()["id"]
    kept(alice, project_id=project)
    assert bob.get(f"{FLOWS}?project_id={project}").json() == []


def test_a_superuser_changes_everybodys_flows_and_they_stay_theirs(admin: httpx.Client, alice: httpx.Client) -> None:
    made = kept(alice)
    put = admin.put(FLOWS + made["id"], json={"name": f"by admin {uuid4()}", "data": ECHO})
    assert (put.status_code, put.json()["user_id"]) == (200, made["user_id"])
    assert alice.get(FLOWS + made["id"]).json() == put.json()


# ------------------------------------------------------------------------------------------------------------ changes
def test_a_patch_changes_what_it_names_and_adds_one_to_the_version(alice: httpx.Client) -> None:
    made = kept(alice, endpoint_name=f"e-{uuid4()}")
    answer = alice.patch(FLOWS + made["id"], json={"description": "new", "endpoint_name": None, "unknown": 1})
    assert answer.status_code == 200
    told = answer.json()
    assert told == made | {
        "description": "new",
        "endpoint_name": None,
        "version": 2,
        "updated_at": told["updated_at"],
    }


def test_a_patch_that_is_not_valid_changes_nothing(alice: httpx.Client) -> None:
    made = kept(alice)
    other = kept(alice)
    for changes, status in (
        ({"data": {"nodes": [{"id": "a", "data": {"component": "NoSuch"}}], "edges": []}}, 422),
        ({"name": None}, 422),
        ({"name": other["name"]}, 409),
        ({"project_id": str(uuid4())}, 404),
    ):
        assert alice.patch(FLOWS + made["id"], json=changes).status_code == status, changes
    assert alice.get(FLOWS + made["id"]).json() == made


def test_put_makes_a_flow_under_an_id_and_then_replaces_it(alice: httpx.Client) -> None:
    flow_id = str(uuid4())
    first = alice.put(FLOWS + flow_id, json={"name": f"put {flow_id}", "description": "one", "data": ECHO})
    second = alice.put(FLOWS + flow_id, json={"name": f"put {flow_id}", "data": ECHO})
    assert (first.status_code, second.status_code) == (201, 200)
    assert (second.json()["id"], second.json()["version"], second.json()["description"]) == (flow_id, 2, "")
    assert second.json()["created_at"] == first.json()["created_at"]
    other = alice.put(FLOWS + flow_id, json={"id": str(uuid4()), "name": "x"})
    assert other.status_code == 422
    only_new = alice.put(FLOWS + flow_id, json={"name": "x"}, headers={"If-None-Match": "*"})
    assert only_new.status_code == 412


def test_delete_answers_as_clients_of_v1_expect_and_then_the_flow_is_gone(alice: httpx.Client) -> None:
    url = FLOWS + kept(alice)["id"]
    answer = alice.delete(url)
    assert (answer.status_code, answer.json()) == (200, {"message": "Flow deleted successfully"})
    assert [alice.get(url).status_code, alice.delete(url).status_code] == [404, 404]


# ------------------------------------------------------------------------------------------------------------- versions
def test_who_has_the_present_version_gets_304(alice: httpx.Client) -> None:
    url = FLOWS + kept(alice)["id"]
    known = alice.get(url).headers["ETag"]
    answer = alice.get(url, headers={"If-None-Match": known})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", known)
    alice.patch(url, json={"description": "new"})
    assert alice.get(url, headers={"If-None-Match": known}).status_code == 200


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
def test_a_change_to_an_older_version_is_412_and_changes_nothing(alice: httpx.Client, method: str) -> None:
    made = alice.post(FLOWS, json={"name": f"flow {uuid4()}", "data": ECHO})
    url, old = made.headers["Location"], made.headers["ETag"]
    alice.patch(url, json={"description": "new"})
    now = alice.get(url)
    body = None if method == "DELETE" else {"name": f"lost {method} {uuid4()}"}
    answer = alice.request(method, url, json=body, headers={"If-Match": old})
    assert (answer.status_code, answer.headers["ETag"]) == (412, now.headers["ETag"])
    assert alice.get(url).json() == now.json()
    again = alice.request(method, url, json=body, headers={"If-Match": now.headers["ETag"]})
    assert again.status_code == 200


def at_once(
    server: RunningServer,
    calls: list[tuple[httpx.Client, str, dict[str, Any], dict[str, str]]],
    method: str = "PATCH",
) -> list[int]:
    """Send requests at the same moment, each over a connection of its own, and return their statuses."""
    start, statuses = threading.Barrier(len(calls)), [0] * len(calls)

    def send(n: int) -> None:
        client, url, body, headers = calls[n]
        with httpx.Client(base_url=server.url, headers=client.headers, timeout=120) as own:
            start.wait()
            statuses[n] = own.request(method, url, json=body, headers=headers).status_code

    threads = [threading.Thread(target=send, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_of_two_changes_to_one_version_one_is_made_and_one_is_412(server: RunningServer, alice: httpx.Client) -> None:
    for turn in range(5):
        made = alice.post(FLOWS, json={"name": f"race {turn} {uuid4()}", "data": ECHO})
        url, headers = made.headers["Location"], {"If-Match": made.headers["ETag"]}
        told = at_once(server, [(alice, url, {"description": f"by {n}"}, headers) for n in range(2)])
        assert sorted(told) == [200, 412]
        assert alice.get(url).json()["description"] == f"by {told.index(200)}"


def test_changes_without_a_version_are_all_made_and_none_undoes_what_another_named(
    server: RunningServer, alice: httpx.Client
) -> None:
    url = FLOWS + kept(alice)["id"]
    changes: list[dict[str, Any]] = [
        {"description": "new"},
        {"endpoint_name": f"e-{uuid4()}"},
        {"name": f"n {uuid4()}"},
    ]
    assert at_once(server, [(alice, url, change, {}) for change in changes]) == [200, 200, 200]
    now = alice.get(url).json()
    assert now["version"] == 4
    assert all(now[name] == value for change in changes for name, value in change.items())


def test_flows_of_one_name_that_are_made_at_once_are_all_kept_under_names_of_their_own(
    server: RunningServer, bob: httpx.Client
) -> None:
    name = f"many {uuid4()}"
    assert at_once(server, [(bob, FLOWS, {"name": name, "data": ECHO}, {})] * 8, "POST") == [201] * 8
    names = {flow["name"] for flow in listed(bob, "header_flows=true") if flow["name"].startswith(name)}
    assert names == {name, *(f"{name} ({n})" for n in range(1, 8))}


def test_one_id_that_is_put_at_once_is_made_once(server: RunningServer, bob: httpx.Client) -> None:
    url = FLOWS + str(uuid4())
    told = at_once(server, [(bob, url, {"name": url, "data": ECHO}, {"If-None-Match": "*"})] * 4, "PUT")
    assert sorted(told) == [201, 412, 412, 412], told
    assert bob.get(url).json()["version"] == 1


# ------------------------------------------------------------------------------------------------------- files
def test_a_flow_that_is_downloaded_can_be_uploaded_again(alice: httpx.Client, bob: httpx.Client) -> None:
    made = kept(alice, name="Out & in", endpoint_name=f"e-{uuid4()}")
    file = alice.post(f"{FLOWS}download/", json=[made["id"]])
    assert file.headers["Content-Disposition"] == "attachment; filename*=UTF-8''Out%20_%20in.json"
    mine = alice.post(f"{FLOWS}upload/", files={"file": ("flow.json", file.content)})
    theirs = bob.post(f"{FLOWS}upload/", files={"file": ("flow.json", file.content)})
    assert (mine.status_code, theirs.status_code) == (201, 201)
    (copy,), (other,) = mine.json(), theirs.json()
    assert (copy["name"], copy["endpoint_name"]) == ("Out & in (1)", f"{made['endpoint_name']}-1")
    assert copy["id"] != made["id"] != other["id"]
    assert other["name"] == "Out & in"
    assert copy["data"] == other["data"] == ECHO


def test_what_leaves_has_no_value_of_a_secret_port(alice: httpx.Client) -> None:
    secret = {"Authorization": f"Bearer {uuid4()}"}
    node = {"id": "ask", "data": {"component": "HttpRequest", "values": {"url": "http://x.example", "headers": secret}}}
    made = kept(alice, data={"nodes": [node], "edges": []})
    assert alice.get(FLOWS + made["id"]).json()["data"]["nodes"] == [node], "its owner can edit it"
    for ids in ([made["id"]], [made["id"], kept(alice)["id"]]):
        content = alice.post(f"{FLOWS}download/", json=ids).content
        files = [content] if len(ids) == 1 else [entry for _, entry in unpacked(content)]
        assert not any(secret["Authorization"].encode() in file for file in files)
        assert any(b"http://x.example" in file for file in files)
    file = alice.post(f"{FLOWS}download/", json=[made["id"]]).content
    (back,) = alice.post(f"{FLOWS}upload/", files={"file": ("flow.json", file)}).json()
    assert back["data"]["nodes"][0]["data"]["values"] == {"url": "http://x.example"}


def test_several_flows_leave_in_a_zip_archive_that_comes_in_again(alice: httpx.Client, bob: httpx.Client) -> None:
    inner = kept(alice, name="inner")
    outer = kept(alice, name="../outer", data=calling(inner["id"]))
    archive = alice.post(f"{FLOWS}download/", json=[outer["id"], inner["id"]])
    assert archive.headers["Content-Type"] == "application/zip"
    elsewhere = bob.post(f"{FLOWS}upload/", files={"file": ("flows.zip", archive.content)}).json()
    assert {flow["id"] for flow in elsewhere}.isdisjoint({inner["id"], outer["id"]}), "an id is taken only once"
    assert elsewhere[0]["data"] == calling(elsewhere[1]["id"]), "and one still calls the other"
    for flow in (outer, inner):
        alice.delete(FLOWS + flow["id"])
    back = alice.post(f"{FLOWS}upload/", files={"file": ("flows.zip", archive.content)}).json()
    assert [flow["id"] for flow in back] == [outer["id"], inner["id"]], "ids that are free are kept"


def test_several_flows_in_one_file_come_in_together_or_not_at_all(alice: httpx.Client) -> None:
    project = alice.post("/api/v1/projects/", json={"name": "In"}).json()
    good = {"name": f"good {uuid4()}", "data": ECHO}
    told = alice.post(f"{FLOWS}upload/?project_id={project['id']}", files={"file": _file({"flows": [good, good]})})
    assert [flow["project_id"] for flow in told.json()] == [project["id"]] * 2
    before = listed(alice, "header_flows=true")
    bad = {"name": "bad", "data": {"nodes": [{"id": "a", "data": {"component": "NoSuch"}}], "edges": []}}
    told = alice.post(f"{FLOWS}upload/", files={"file": _file({"flows": [good, bad, bad]})})
    assert told.status_code == 422
    assert {problem["loc"][0].partition(".")[0] for problem in told.json()["errors"]} == {"flows[1]", "flows[2]"}
    assert listed(alice, "header_flows=true") == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 422),
        (b"{}", 422),
        (b'{"flows": []}', 422),
        (b'{"flows": 7}', 422),
        (b"PK\x03\x04 no archive", 422),
        (b'{"name": "x", "name": "y"}', 400),
        (b"[" * 100_000, 400),
    ],
)
def test_a_file_that_has_no_flows_is_refused(alice: httpx.Client, content: bytes, status: int) -> None:
    answer = alice.post(f"{FLOWS}upload/", files={"file": ("flow.json", content)})
    assert answer.status_code == status, answer.text


def test_an_archive_that_unpacks_to_too_much_is_refused(alice: httpx.Client) -> None:
    answer = alice.post(f"{FLOWS}upload/", files={"file": ("bomb.zip", _bomb())})
    assert answer.status_code == 422
    assert "bytes" in answer.json()["detail"]


def test_a_download_of_what_one_does_not_have_is_404(alice: httpx.Client, bob: httpx.Client) -> None:
    mine, theirs = kept(alice)["id"], kept(bob)["id"]
    answers = [alice.post(f"{FLOWS}download/", json=[mine, other]) for other in (theirs, str(uuid4()))]
    assert [answer.status_code for answer in answers] == [404, 404]


def unpacked(archive: bytes) -> list[tuple[str, bytes]]:
    """Return the files of an archive."""
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        return [(name, opened.read(name)) for name in opened.namelist()]


def _file(content: Any) -> tuple[str, bytes]:
    return "flows.json", json.dumps(content).encode()


def _bomb() -> bytes:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.json", b" " * (40 << 20))
    return archive.getvalue()
