"""A value that is gone, or that cannot be written, is the trouble of its own job, and of no other."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from millstream.clock import SystemClock
from millstream.ledger import blobs, schema
from millstream.ledger.base import IdempotencyConflictError, RefusedRecordError, Settlement
from millstream.ledger.blobs import BlobMissingError
from millstream.ledger.sql import SqlLedger
from millstream.model.job import JobRecord, JobState
from millstream.testing.ledger_doings import (
    CANCEL,
    ME,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    make_job,
    nobody,
    record,
    submit,
)

LARGE = {"x": "y" * 20_000}


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(url, SystemClock())
    await ledger.join(ME, nobody)
    yield ledger
    await ledger.close()


async def damaged(ledger: SqlLedger, tmp_path: Path, **fields: Any) -> JobRecord:
    """Submit a job, and lose its large input."""
    job = make_job(inputs=LARGE, **fields)
    await submit(ledger, job, None)
    await ledger._task(lambda connection: connection.raw.execute(sa.update(schema.blob).values(digest="gone")))
    remove_blobs(tmp_path)
    return job


def remove_blobs(tmp_path: Path) -> None:
    for file in tmp_path.glob("ledger.db.blobs/??/*"):
        file.unlink()


# ------------------------------------------------------------------------------------------------ values that are gone
async def test_a_job_whose_input_is_gone_keeps_no_other_from_being_claimed(ledger: SqlLedger, tmp_path: Path) -> None:
    bad = await damaged(ledger, tmp_path)
    good = make_job(inputs={"x": (1, 2)})
    await submit(ledger, good, None)
    claims = await ledger.claim(ME, 10)
    assert [claim.job.id for claim in claims] == [bad.id, good.id]
    assert claims[1].job.inputs == {"x": (1, 2)}
    with pytest.raises(BlobMissingError):
        await ledger.get(bad.id)


async def test_a_cancel_of_a_job_whose_input_is_gone_takes_no_other_record_with_it(
    ledger: SqlLedger, tmp_path: Path
) -> None:
    claim = await claimed(ledger)
    bad = await damaged(ledger, tmp_path)
    (cancelled, first), told = await asyncio.gather(
        ledger.cancel(bad.id, [CANCEL]), record(ledger, claim, ended("a", 1), end=Settlement(SUCCEEDED))
    )
    assert (cancelled.state, first) == (JobState.CANCELLED, 2)
    assert told[0] == 2


async def test_a_key_of_a_job_whose_input_is_gone_takes_no_other_record_with_it(
    ledger: SqlLedger, tmp_path: Path
) -> None:
    claim = await claimed(ledger)
    bad = await damaged(ledger, tmp_path, idempotency_key="k")
    same, other, told = await asyncio.gather(
        submit(ledger, make_job(inputs=LARGE, idempotency_key="k"), None),
        submit(ledger, make_job(inputs={"x": 1}, idempotency_key="k"), None),
        record(ledger, claim, ended("a", 1)),
        return_exceptions=True,
    )
    assert isinstance(same, tuple)
    assert same[0].id == bad.id
    assert isinstance(other, IdempotencyConflictError)
    assert told == (2, [ended("a", 1)])


# ---------------------------------------------------------------------------------------- values that cannot be written
def refuse_blobs(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_path: Path, _raw: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(blobs, "_write", refuse)


async def test_a_large_value_that_cannot_be_written_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    await ledger.join(ME, nobody)
    claims = [await claimed(ledger) for _ in range(3)]
    refuse_blobs(monkeypatch, errno.EACCES)
    large = (True, "node_succeeded", 3.0, "a", ledger.seal(claims[1].job, {"value": "x" * 9000}))
    drafts = [ended("a", 0), large, ended("a", 2)]
    told = await asyncio.gather(
        *(record(ledger, claim, draft) for claim, draft in zip(claims, drafts, strict=True)), return_exceptions=True
    )
    assert [type(answer) for answer in told] == [tuple, RefusedRecordError, tuple]
    assert await record(ledger, claims[1], fact("x")) == (2, [fact("x")])
    await ledger.close()


async def test_a_large_value_without_room_waits_with_what_its_job_records_after_it_and_holds_back_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    await ledger.join(ME, nobody)
    one, two = [await claimed(ledger) for _ in range(2)]
    with monkeypatch.context() as full:
        refuse_blobs(full, errno.ENOSPC)
        large = (True, "node_succeeded", 3.0, "a", ledger.seal(one.job, {"value": "x" * 9000}))
        waiting = [asyncio.ensure_future(record(ledger, one, draft)) for draft in (large, fact("after"))]
        assert await record(ledger, two, fact("x")) == (2, [fact("x")])
        assert not any(future.done() for future in waiting)
    assert [first for first, _ in await asyncio.gather(*waiting)] == [2, 3]
    assert [event.type for event in await ledger.history(one.job.id)] == ["planned", "node_succeeded", "after"]
    await ledger.close()
