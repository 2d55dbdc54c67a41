"""Tasks by Celery's names over HTTP: started, asked about, and nobody else's."""

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.server.site import Site
from millstream.settings import Settings
from tests.server.job_flows import gate
from tests.server.running import PASSWORD, PATIENCE, RunningServer, signed_in

TASKS = "tests.server.job_flows"
UNKNOWN = "0195a1a2-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": [TASKS]}


def started(client: httpx.Client, name: str, **call: Any) -> str:
    answer = client.post("/run-task", json={"task": f"{TASKS}.{name}", **call})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert set(told) == {"task_id", "status"}
    assert told["status"] == "Task started"
    assert answer.headers["Location"] == f"/task-status/{told['task_id']}"
    return str(told["task_id"])


def status_when(client: httpx.Client, task_id: str, *wanted: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = client.get(f"/task-status/{task_id}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert set(told) == {"task_id", "status", "result"}
        if told["status"] in wanted:
            return told
        time.sleep(0.01)
    raise TimeoutError(f"{task_id} never was {wanted}")


def test_a_task_is_started_and_its_result_told(alice: httpx.Client) -> None:
    task_id = started(alice, "double", args=[21])
    assert status_when(alice, task_id, "SUCCESS") == {"task_id": task_id, "status": "SUCCESS", "result": 42}


def test_without_a_name_the_example_waits_as_long_as_it_is_told(alice: httpx.Client) -> None:
    answer = alice.post("/run-task", json={"duration": 0.01}, headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=60")
    assert answer.json() == {
        "task_id": answer.json()["task_id"],
        "status": "SUCCESS",
        "result": "Task completed in 0.01 seconds",
    }


def test_without_a_body_it_waits_five_seconds(alice: httpx.Client) -> None:
    task_id = alice.post("/run-task").json()["task_id"]
    assert alice.get(f"/api/v1/jobs/{task_id}").json()["inputs"] == {"duration": 5.0}
    assert alice.post(f"/api/v1/jobs/{task_id}/cancel").status_code == 200
    told = status_when(alice, task_id, "REVOKED")
    assert told["result"]["type"] == "TaskRevokedError"


def test_a_failure_is_told_as_type_and_message(alice: httpx.Client) -> None:
    told = status_when(alice, started(alice, "fail", kwargs={"text": "no"}), "FAILURE")
    assert told["result"] == {"type": "ValueError", "message": "no"}


def test_progress_is_told_with_its_meta(alice: httpx.Client) -> None:
    task_id = started(alice, "move", args=[name := "progress-of-a-task"])
    assert status_when(alice, task_id, "PROGRESS")["result"] == {"done": 1}
    gate(name).set()
    assert status_when(alice, task_id, "SUCCESS")["result"] == name


@pytest.mark.parametrize("task_id", [UNKNOWN, "nobody", "a/b", "~", "*", "%", f"{UNKNOWN}.double", "%00"])
def test_an_id_that_was_never_submitted_is_not_found(alice: httpx.Client, task_id: str) -> None:
    answer = alice.get(f"/task-status/{task_id}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "no task is known under this id")


def test_the_tasks_of_others_are_not_there(alice: httpx.Client, bob: httpx.Client, admin: httpx.Client) -> None:
    task_id = started(alice, "double", args=[1])
    for asked in (task_id, f"{task_id}.double"):
        foreign, unknown = bob.get(f"/task-status/{asked}"), bob.get(f"/task-status/{UNKNOWN}")
        assert foreign.status_code == 404
        assert foreign.text.replace(asked, UNKNOWN) == unknown.text
    assert status_when(admin, task_id, "SUCCESS")["result"] == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"task": "nobody.knows"}, 404),
        ({"task": f"{TASKS}.double", "args": [1, 2]}, 422),
        ({"task": f"{TASKS}.double", "kwargs": {"m": 1}}, 422),
        ({"task": f"{TASKS}.double", "args": [1], "priority": 3}, 422),
        ({"duration": 1, "kwargs": {"duration": 2}}, 422),
        ({"duration": "long"}, 422),
        ([1], 422),
        ("x", 422),
    ],
)
def test_what_does_not_fit_is_refused(alice: httpx.Client, body: Any, status: int) -> None:
    answer = alice.post("/run-task", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(("task", "hint"), [(f"{TASKS}.duble", f"; did you mean {TASKS}.double"), ("nobody.knows", "")])
def test_a_task_that_nobody_knows_is_told_with_those_alone_that_may_be_meant(
    alice: httpx.Client, task: str, hint: str
) -> None:
    told = alice.post("/run-task", json={"task": task}).json()["detail"]
    assert told.startswith(f"no task or flow is named '{task}'{hint}")
    assert told.count(" or ") <= 3
    assert hint or told == f"no task or flow is named '{task}'"


def test_a_tasks_own_inputs_are_no_options_of_ours(alice: httpx.Client) -> None:
    answer = alice.post("/run-task", json={"task": f"{TASKS}.double", "kwargs": {"n": 1, "owner": "x"}})
    assert answer.status_code == 422


def test_the_same_key_is_the_same_task_and_another_body_a_conflict(alice: httpx.Client, bob: httpx.Client) -> None:
    key, call = {"Idempotency-Key": "order-17"}, {"task": f"{TASKS}.double", "args": [8]}
    first = alice.post("/run-task", json=call, headers=key).json()["task_id"]
    assert alice.post("/run-task", json=call, headers=key).json()["task_id"] == first
    other = alice.post("/run-task", json=call | {"args": [9]}, headers=key)
    assert other.status_code == 409
    assert bob.post("/run-task", json=call, headers=key).json()["task_id"] != first
    assert alice.post("/run-task", json=call, headers={"Idempotency-Key": "a" * 201}).status_code == 400


def test_who_would_not_wait_long_enough_gets_the_address(alice: httpx.Client) -> None:
    call = {"task": f"{TASKS}.stand", "args": [name := "nobody-waits-for-it"]}
    answer = alice.post("/run-task", json=call, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=0")
    gate(name).set()
    told = status_when(alice, answer.json()["task_id"], "SUCCESS")
    assert alice.get(answer.headers["Location"]).json() == told


def test_a_server_that_stops_lets_nobody_wait(tmp_path: Path) -> None:
    given = {"config_dir": tmp_path, "superuser": "admin", "superuser_password": PASSWORD, "auto_login": False}
    with (
        RunningServer(Settings.of(**given, drain_grace=30.0)) as running,
        closing(signed_in(running, "admin")) as client,
    ):
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(client.post("/run-task", json={"duration": 3600}, headers={"Prefer": "wait=60"}))

        asking = threading.Thread(target=ask)
        asking.start()
        while not running.do(lambda site: site.app.jobs(limit=1)):
            time.sleep(0.01)
        begun = time.monotonic()
        running.do(stopping)
        asking.join(PATIENCE)
        assert [answer.status_code for answer in answers] == [202]
        assert time.monotonic() - begun < 30
        running.do(lambda site: site.app.cancel(answers[0].json()["task_id"]))


async def stopping(site: Site) -> None:
    site.stop()
