"""Answers have the shapes that clients know: recorded, with the kind of each value in its place."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.server.building import events, flow_id, start
from tests.server.flow_cases import ECHO
from tests.server.shapes import FREE, shape_of

RECORDED = json.loads((Path(__file__).parent / "recorded_answers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": "tests.server.build_flows"}


def test_answers_have_the_recorded_shapes(alice: httpx.Client, admin: httpx.Client) -> None:
    echo = alice.post("/api/v1/flows/", json={"name": "echo", "data": ECHO}).json()["id"]
    ended = start(alice, "talk")
    events(alice, ended)
    asked = {
        "build": alice.post(f"/api/v1/build/{echo}/flow", json={"inputs": {"input_value": "hello"}, "stream": False}),
        "unknown flow": alice.post("/api/v1/build/0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f/flow", json={}),
        "no uuid": alice.post("/api/v1/build/nothing/flow", json={}),
        "cancel": alice.post(f"/api/v1/build/{start(alice, 'endless')}/cancel"),
        "cancel of what has ended": alice.post(f"/api/v1/build/{ended}/cancel"),
        "run": alice.post(f"/api/v1/run/{echo}", json={"input_value": "hello"}),
        "failing run": alice.post(f"/api/v1/run/{flow_id('broken')}"),
        "webhook": alice.post(f"/api/v1/webhook/{echo}", json={}),
        "monitor": admin.get("/api/v1/monitor/job_queue"),
    }
    for name, answer in asked.items():
        assert {"status": answer.status_code, "body": shape_of(answer.json(), FREE - {"outputs"})} == RECORDED[name], (
            name
        )
    assert asked.keys() == RECORDED.keys()
