"""The flows of `examples/flows` go to the server as they are, and run there; a refused request is told as such."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.model.job import JobState
from tests.library.listeners import listening
from tests.server.building import events
from tests.server.running import RunningServer

FOLDER = Path(__file__).parents[2] / "examples" / "flows"


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"egress_allow": "localhost"}


def built(client: httpx.Client, name: str, **inputs: Any) -> list[dict[str, Any]]:
    """Store an example, build it, and return the build's events."""
    return events(client, begun(client, name, **inputs))


def begun(client: httpx.Client, name: str, **inputs: Any) -> str:
    stored = client.post("/api/v1/flows/", content=(FOLDER / f"{name}.json").read_bytes(), headers=JSON)
    assert stored.status_code == 201, stored.text
    answer = client.post(f"/api/v1/build/{stored.json()['id']}/flow", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


JSON = {"content-type": "application/json"}


def results(told: list[dict[str, Any]]) -> list[Any]:
    """Return what the last node of a build gave."""
    assert told[-1]["data"]["status"] == "succeeded", told
    last = [event for event in told if event["event"] == "end_vertex"][-1]
    data: dict[str, Any] = last["data"]["build_data"]["data"]["results"]
    return list(data.values())


@pytest.mark.parametrize(
    ("name", "inputs", "text"),
    [
        ("echo", {"input_value": "hello"}, "hello"),
        ("prompt", {"input_value": "why?"}, "Question: why?"),
        ("router", {"input_value": "refund!"}, "We are sorry."),
        ("router", {"input_value": "hello"}, "Thank you for your message: hello"),
        ("loop", {"input_value": "a      b", "type": "text"}, "a b"),
    ],
)
def test_an_example_is_built(name: str, inputs: dict[str, Any], text: str, alice: httpx.Client) -> None:
    assert text in json.dumps(results(built(alice, name, **inputs)))


def test_a_flow_asks_a_server_that_is_allowed(alice: httpx.Client) -> None:
    body = json.dumps({"owner": {"login": "ada"}}).encode()
    with listening(lambda asked: asked.answer(200, body, content_type="application/json")) as listener:
        url = f"http://localhost:{listener.port}/"
        assert "ada" in json.dumps(results(built(alice, "http_json", input_value=url, type="text")))


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "2130706433"])
def test_a_flow_that_asks_where_it_may_not_fails_as_egress_denied(host: str, alice: httpx.Client) -> None:
    with listening() as listener:
        told = built(alice, "http_json", input_value=f"http://{host}:{listener.port}/", type="text")
        assert listener.connects == 0
    assert told[-1]["data"]["status"] == "failed"
    assert "egress-denied" in json.dumps([event for event in told if event["event"] == "error"])


def test_the_slow_flow_is_cancelled_while_it_waits(alice: httpx.Client, server: RunningServer) -> None:
    job_id = begun(alice, "slow", input_value="hello")
    answer = alice.post(f"/api/v1/build/{job_id}/cancel")
    assert answer.json() == {"success": True, "message": "Flow build cancelled successfully"}
    assert server.do(lambda site: site.app.record(job_id)).state is JobState.CANCELLED
    assert events(alice, job_id)[-1]["data"]["status"] == "cancelled"
