"""The pages of `FlaskMillstream.blueprint`, in the shapes of the guide to Flask and Celery."""

import asyncio
import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from millstream.compat import Task, _state
from millstream.errors import WorkflowServiceUnavailableError
from millstream.integrations.flask import FlaskMillstream

WAIT = 120


@pytest.fixture
def app() -> Iterator[Flask]:
    made = Flask("pages")
    ext = FlaskMillstream(made)

    @ext.task(name="pages.divide", bind=True)
    def divide(self: Task, x: int, by: int = 1) -> Any:
        self.update_state(state="PROGRESS", meta={"done": 0})
        if by == 7:
            return {"at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "ratio": float("nan"), "size": 1 + 2j}
        return x / by

    def checked(given: dict[str, Any]) -> dict[str, Any]:
        if given.get("n", 0) < 0:
            raise ValueError("n must be 0 or more")
        return {"x": float(given["n"] if given else 5)}

    made.register_blueprint(ext.blueprint(divide))
    made.register_blueprint(ext.blueprint(divide, name="others", inputs=checked), url_prefix="/others")
    yield made
    asyncio.run(made.extensions["millstream"].aclose())
    _state.set_current_app(None)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def ended(client: FlaskClient, task_id: str) -> dict[str, Any]:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        answer = client.get(f"/task-status/{task_id}")
        assert answer.status_code == 200
        told: dict[str, Any] = json.loads(answer.data, parse_constant=lambda name: pytest.fail(f"no JSON: {name}"))
        assert set(told) == {"task_id", "status", "result"}
        if told["status"] in ("SUCCESS", "FAILURE"):
            return told
        time.sleep(0.01)
    raise TimeoutError(task_id)


def started(client: FlaskClient, place: str = "", **inputs: Any) -> str:
    answer = client.post(f"{place}/run-task", json=inputs)
    assert answer.status_code == 202
    told = answer.get_json()
    assert told["status"] == "Task started"
    assert set(told) == {"task_id", "status"}
    return str(told["task_id"])


def test_a_task_is_started_and_its_status_told(client: FlaskClient) -> None:
    task_id = started(client, x=6, by=3)
    assert ended(client, task_id) == {"task_id": task_id, "status": "SUCCESS", "result": 2.0}


def test_inputs_may_be_made_of_what_the_page_gets(client: FlaskClient) -> None:
    assert ended(client, started(client, "/others", n=4))["result"] == 4.0
    for wrong, said in (
        ({"n": -1}, "n must be 0 or more"),
        ({"m": 1}, "'n' is missing"),
        ({"n": None}, "not supported between instances"),
        ({"n": "x"}, "not supported between instances"),
    ):
        refused = client.post("/others/run-task", json=wrong)
        assert (refused.status_code, said in refused.get_json()["error"]) == (400, True), refused.get_json()


def test_a_body_may_be_left_out(client: FlaskClient) -> None:
    answer = client.post("/others/run-task")
    assert answer.status_code == 202
    assert ended(client, answer.get_json()["task_id"])["result"] == 5.0


def test_a_task_that_failed_is_told_with_its_error(client: FlaskClient) -> None:
    told = ended(client, started(client, x=6, by=0))
    assert (told["status"], told["result"]) == (
        "FAILURE",
        {"type": "ZeroDivisionError", "message": "division by zero"},
    )


def test_a_result_that_json_does_not_have_is_told_all_the_same(client: FlaskClient) -> None:
    told = ended(client, started(client, x=6, by=7))
    assert told["result"] == {"at": "2026-01-02T00:00:00Z", "ratio": None, "size": "(1+2j)"}


@pytest.mark.parametrize("task_id", ["unknown", "0195a1a2-0000-7000-8000-000000000000", "a/b", "%00"])
def test_an_id_that_nobody_knows_is_not_found(client: FlaskClient, task_id: str) -> None:
    answer = client.get(f"/task-status/{task_id}")
    assert answer.status_code == 404
    assert answer.get_json()["error"] == "no task is known under this id"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"\xff", "application/json"),
        (b'{"x": 1}', "text/html"),
    ],
)
def test_what_is_no_json_object_is_refused_in_one_line(client: FlaskClient, body: bytes, kind: str) -> None:
    answer = client.post("/run-task", data=body, content_type=kind)
    assert answer.status_code == 400
    assert answer.get_json() == {"error": "the request's body has to be a JSON object, with the type application/json"}


@pytest.mark.parametrize("inputs", [{}, {"x": 1, "y": 2}, {"x": 1, "self": 2}])
def test_inputs_that_do_not_fit_are_refused_in_one_line(client: FlaskClient, inputs: dict[str, int]) -> None:
    answer = client.post("/run-task", json=inputs)
    assert answer.status_code == 400
    (line,) = answer.get_json()["error"].splitlines()
    assert "pages.divide" in line


def test_a_ledger_that_is_away_is_told(client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise WorkflowServiceUnavailableError("the ledger does not answer")

    monkeypatch.setattr(app.extensions["millstream"], "hand_in", refuse)
    answer = client.post("/run-task", json={"x": 1})
    assert (answer.status_code, answer.get_json()) == (503, {"error": "the ledger does not answer"})
