"""A record that the ledger cannot take ends its job, rather than leaving it to be tried for ever."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from millstream import JobState, Millstream, Settings, flow, task
from millstream.ledger.base import Claim, Pause, Recorded, RefusedRecordError, Settlement
from millstream.ledger.sql import SqlLedger
from millstream.model.event import Draft


@task
async def give(x: int) -> int:
    return x


@flow
def both() -> Any:
    return give(give(1))


async def test_a_record_that_is_refused_fails_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = SqlLedger.record

    def record(
        ledger: SqlLedger, claim: Claim, drafts: Sequence[Draft], end: Settlement | Pause | None, done: Recorded
    ) -> None:
        if any(draft[1] == "node_succeeded" for draft in drafts):
            done(RefusedRecordError("no such thing can be written"), ())
        else:
            take(ledger, claim, drafts, end, done)

    monkeypatch.setattr(SqlLedger, "record", record)
    async with Millstream(settings=Settings(database_url=f"sqlite:///{tmp_path}/ledger.db")) as app:
        job = await app.submit(both)
        assert await job.wait() is JobState.FAILED
        told = await job.record()
    assert told.reason == "internal"
    assert told.error is not None
    assert told.error.message == "no such thing can be written"
