"""Jobs of documents go on in a process that knows nothing of the document, only the tasks: after a kill, on workers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from millstream import Millstream, library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.flow import DocumentFlow
from millstream.model.names import DOCUMENTS, document_name
from millstream.settings import Settings
from tests.celery_workers import ROOT, Workers, environment
from tests.integration.document_program import SHOUTING_LATER
from tests.integration.document_tasks import CATALOGUE, CHAT, FLOW_ID
from tests.lifeline import die_with_parent

SECONDS = 120.0
TASKS = "tests.integration.document_tasks"


@contextmanager
def running(ledger: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run `document_program` on a ledger; it is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.document_program", *arguments],
        env=environment({"database_url": ledger}),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def ended(app: Millstream, job_id: str) -> Any:
    return await asyncio.wait_for((await app.job(job_id)).result(), SECONDS)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


async def test_after_a_kill_another_process_goes_on_that_knows_only_the_library(ledger: str) -> None:
    with running(ledger) as process:
        job_id = line(process)
        assert line(process) == "rests"
        process.send_signal(signal.SIGKILL)
        assert process.wait(SECONDS) == -signal.SIGKILL

        async with Millstream(settings=Settings(database_url=ledger)) as app:
            library.load(app.registry)
            result = await ended(app, job_id)
            assert result["outputs"]["out"]["text"] == "HI"
            events = [event async for event in (await app.job(job_id)).events()]
            done = [event.node for event in events if event.type == "node_succeeded"]
            assert done == ["in", "shout", "rest.sleep", "rest", "out"]
            assert (await app.record(job_id)).flow == document_name(FLOW_ID)


async def test_what_was_done_before_a_kill_is_not_done_again(ledger: str, tmp_path: Path) -> None:
    log, mark = tmp_path / "log", tmp_path / "mark"
    with running(ledger, str(log), str(mark)) as process:
        job_id = line(process)
        assert process.wait(SECONDS) == -signal.SIGKILL
    assert int(mark.read_text()) == process.pid

    async with Millstream(settings=Settings(database_url=ledger), imports=[TASKS]) as app:
        app.registry.claim_keys.add(DOCUMENTS)
        assert await ended(app, job_id) == {"outputs": {"out": "hi!"}}
        assert log.read_text() == "x"
        again = await app.retry(job_id, from_start=True)
        assert await ended(app, again.id) == {"outputs": {"out": "hi!"}}


@pytest.fixture
def settings(valkey_url: str, ledger: str) -> dict[str, str]:
    return {"celery_enabled": "true", "broker_url": valkey_url, "database_url": ledger}


@pytest.mark.parametrize("pool", ["async", pytest.param("prefork", marks=pytest.mark.matrix)])
async def test_workers_execute_documents(pool: str, some: Workers, program: Millstream) -> None:
    worker = some.start(TASKS, pool=pool, concurrency=1)
    flow = DocumentFlow(FLOW_ID, CHAT, CATALOGUE)
    assert await ended(program, (await program.submit(flow, input_value="hi")).id) == {"outputs": {"out": "HI"}}

    catalogue = Catalogue.of(program.registry, library.load(program.registry).components)
    later = DocumentFlow(FLOW_ID, SHOUTING_LATER, catalogue)
    result = await ended(program, (await program.submit(later, input_value="hi")).id)
    assert result["outputs"]["out"]["text"] == "HI"
    assert "does not know" not in worker.said
