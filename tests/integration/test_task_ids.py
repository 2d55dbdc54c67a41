"""Task ids that users give: results, requests and successors have them, wherever the task runs; and priorities."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream import AsyncResult, Millstream, Settings, ctx, group, task
from millstream.authoring import current

ROOT = Path(__file__).parents[2]

told: list[Any] = []
SECONDS = 120.0


@task(bind=True)
def whoami(self: Any, *_: Any) -> list[Any]:
    return [self.request.id, self.request.parent_id, ctx.task_id]


@task(bind=True, run_in="process")
def whoami_elsewhere(self: Any, *_: Any) -> list[Any]:
    return [self.request.id, self.request.parent_id, os.getpid()]


@task(bind=True, name="priority_of")
def priority_of(self: Any, *_: Any) -> Any:
    return self.request.delivery_info["priority"]


@task
def fail() -> None:
    raise ValueError("no")


@task(bind=True)
def answer(self: Any, request: Any, _error: Exception, _traceback: str) -> None:
    told.append((request.id, self.request.id, self.request.parent_id))


@task
def failed_id(task_id: str) -> None:
    told.append(task_id)


@task
def submit_one() -> str:
    return str(whoami.apply_async(task_id="inner").id)


EXECUTOR = """
from millstream import AsyncResult, Millstream, Settings
from millstream.authoring import current

executor = Millstream(settings=Settings(durability="full"), imports=["tests.integration.test_task_ids"])
with current.use(executor):
    print(AsyncResult("second").get(timeout=120))
"""


@pytest.fixture
def app() -> Iterator[Millstream]:
    """A durable app in force, on the ledger of the test's directory."""
    told.clear()
    made = Millstream(settings=Settings(durability="full"), imports=[__name__])
    with current.use(made):
        yield made
    asyncio.run(made.aclose())


@pytest.mark.usefixtures("app")
def test_a_task_goes_by_the_id_that_it_was_given() -> None:
    result = whoami.apply_async(task_id="mine")
    assert result.id == "mine"
    assert result.get(timeout=SECONDS) == ["mine", None, "mine"]
    assert AsyncResult("mine").get() == AsyncResult(f"{result.root_id}.whoami").get() == result.get()


@pytest.mark.usefixtures("app")
def test_nodes_of_a_canvas_and_their_successors_know_given_ids() -> None:
    result = (whoami.s().set(task_id="first") | whoami.s().set(task_id="second") | whoami.s()).apply_async()
    own, parent, _ = result.get(timeout=SECONDS)
    assert (own, parent) == (result.id, "second")
    assert [result.parent.id, result.parent.parent.id] == ["second", "first"]
    assert result.parent.get()[:2] == ["second", "first"]


@pytest.mark.usefixtures("app")
def test_members_of_a_group_have_given_ids() -> None:
    result = group(whoami.s().set(task_id="one"), whoami.s()).apply_async(task_id="both")
    assert (result.id, result[0].id) == ("both", "one")
    assert [own for own, *_ in result.get(timeout=SECONDS)] == ["one", result[1].id]


@pytest.mark.usefixtures("app")
def test_pool_processes_are_told_given_ids() -> None:
    chain = whoami.s().set(task_id="here") | whoami_elsewhere.s().set(task_id="there")
    own, parent, pid = chain.apply_async().get(timeout=SECONDS)
    assert (own, parent) == ("there", "here")
    assert pid != os.getpid()


@pytest.mark.usefixtures("app")
def test_errbacks_are_told_given_ids() -> None:
    sig = fail.s().set(task_id="broken").on_error(answer.s().set(task_id="answered")).on_error(failed_id.s())
    with pytest.raises(ValueError, match="no"):
        sig.apply_async().get(timeout=SECONDS)
    AsyncResult("answered").get(timeout=SECONDS)
    assert ("broken", "answered", "broken") in told


@pytest.mark.usefixtures("app")
def test_what_a_task_submits_has_its_given_id_as_parent() -> None:
    result = submit_one.apply_async(task_id="outer")
    assert result.get(timeout=SECONDS) == "inner"
    assert AsyncResult("inner").get(timeout=SECONDS)[:2] == ["inner", "outer"]
    assert [child.id for child in result.children] == ["inner"]


def test_eager_tasks_have_given_ids() -> None:
    result = whoami.apply(task_id="eager")
    assert (result.id, result.get()[0]) == ("eager", "eager")


def test_a_process_that_has_the_job_from_the_ledger_knows_given_ids() -> None:
    submitter = Millstream(settings=Settings(durability="full"), executes=False)
    with current.use(submitter):
        (whoami.s().set(task_id="first") | whoami.s().set(task_id="second")).apply_async()
    asyncio.run(submitter.aclose())
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", EXECUTOR], env=env, stdout=-1, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "['second', 'first', 'second']"


@pytest.mark.usefixtures("app")
def test_a_task_sees_the_priority_that_it_was_submitted_with() -> None:
    assert priority_of.apply_async(priority=4).get(timeout=SECONDS) == 4
    assert (priority_of.s() | priority_of.s().set(priority=7)).apply_async(priority=4).get(timeout=SECONDS) == 7
    assert priority_of.delay().get(timeout=SECONDS) == 0
