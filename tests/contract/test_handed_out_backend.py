"""The backend keeps every promise with each task handed out, and taken by the same process."""

from pathlib import Path
from typing import Any

import pytest

from millstream import Millstream, Settings
from millstream.clock import Clock
from millstream.engine import program, scope
from millstream.engine.services import HandOut
from millstream.model.policy import Policy
from millstream.testing import SegmentBackendContract

NO_BROKER = "redis://127.0.0.1:1/0"

AT_HOME = {
    "test_the_record_tells_the_story_of_a_job": "what is handed out has a record of its own",
    "test_of_ready_nodes_the_higher_priority_goes_first": "side segments are begun in that order, but two at a time",
    "test_of_queued_jobs_the_higher_priority_goes_first_then_the_older": "a job that awaits others gives its slot back",
    "test_no_more_jobs_run_at_once_than_there_are_slots": "a job that awaits others gives its slot back",
    "test_an_errback_is_given_what_failed_before_its_job_went_on_later": "a job stays running while others wait for it",
    "test_a_body_that_gives_up_its_calls_goes_on": "others' notes come before the record of what wrote them",
    "test_a_body_that_returns_ends_the_calls_it_leaves_behind": "who executes it stops at its next look",
    "test_that_coroutines_run_at_once_is_told": "one may be told to have ended before another is told to have begun",
    "test_nothing_that_tasks_say_is_lost_or_late": "a node's end is read from the ledger, what its task says is not",
    "test_who_closes_the_app_ends_what_runs_and_what_waits": "the test's other app would go on with what is handed on",
    "test_a_loop_can_turn_often": "each of its 900 turns would wait for two transactions",
    "test_ten_thousand_items": "each item would be three transactions' work",
}
"""The tests whose tasks are not all handed out, and why: they tell of where something runs, not of what comes of it."""


def always(policy: Policy | None, *, is_special: bool) -> Policy | None:  # noqa: ARG001  it stands for `program.guard`
    """Let each task's policy have a say, so that none takes the short way past being handed out."""
    return policy


@pytest.mark.matrix  # what is really handed out is held to it by tests/integration
class TestAllHandedOut(SegmentBackendContract):
    keeps_jobs = True

    @pytest.fixture(autouse=True)
    def where(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"
        assert all(hasattr(self, name) for name in AT_HOME)
        self.imports = list[str]()
        if request.function.__name__ in AT_HOME:
            return
        self.imports = ["tests.contract.flows"]  # as workers have them
        monkeypatch.setattr(HandOut, "takes", lambda _self, _queue: False)
        for module in (program, scope):
            monkeypatch.setattr(module, "guard", always)

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        given = {"celery_enabled": True, "broker_url": NO_BROKER, "durability": "full", **settings}
        return Millstream(
            clock=clock,
            settings=Settings(database_url=self.url, **given),
            executes=True,
            imports=self.imports,
        )
