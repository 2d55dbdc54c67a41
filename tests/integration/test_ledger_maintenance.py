"""A ledger's keeper finds whatever is not as it has to be, removes what nobody needs, and nothing else."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from millstream.clock import SystemClock
from millstream.errors import SettingsError
from millstream.ledger import invariants, schema
from millstream.ledger.base import Claim, Pause, Settlement, UnfitLedgerError
from millstream.ledger.database import NoLedgerError, database, transaction
from millstream.ledger.maintenance import Keeper, StaleLedgerError
from millstream.ledger.sql import SqlLedger
from millstream.ledger.upgrade import NewerLedgerError
from millstream.testing import VirtualClock
from millstream.testing.ledger_doings import (
    CANCEL,
    ME,
    SUCCEEDED,
    claimed,
    ended,
    handed_out,
    make_job,
    nobody,
    record,
    submit,
)

DAY = timedelta(days=1).total_seconds()
LARGE = "x" * 20_000


class Shop:
    """A ledger with a job that has ended, with a large result, and one that is held."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keeper = Keeper(url)
        self.clock = VirtualClock()
        self.done = self.open = ""

    async def fill(self, *, leave: bool = True) -> None:
        ledger = SqlLedger(self.url, self.clock)
        await ledger.join(ME, lambda: None)
        job = make_job()
        _, claim = await submit(ledger, job, ME, **{f"the {job.id}": "a"})
        assert claim is not None
        self.done, self.open = claim.job.id, (await claimed(ledger)).job.id
        await self._finish(ledger, claim)
        if leave:
            await ledger.leave(ME)
        await ledger.close()

    async def _finish(self, ledger: SqlLedger, claim: Claim) -> None:
        kind, name, at, node, data = ended("a", LARGE)
        sealed = ledger.seal(claim.job, data)
        await record(ledger, claim, (kind, name, at, node, sealed), end=Settlement(SUCCEEDED, result=LARGE))

    def change(self, statement: sa.Executable) -> None:
        """Do what nobody may do."""
        connection = database(self.url).connect()
        with transaction(connection):
            connection.raw.execute(statement)
        connection.close()

    def found(self) -> list[tuple[str | None, str]]:
        return [(problem.job, problem.what) for problem in self.keeper.check().problems]


@pytest.fixture
async def shop(url: str) -> Shop:
    shop = Shop(url)
    await shop.fill()
    return shop


# -------------------------------------------------------------------------------------------------------------- check
async def test_nothing_is_wrong_with_a_ledger_that_was_only_used(shop: Shop) -> None:
    report = shop.keeper.check()
    assert report.problems == []
    assert report.revision == schema.REVISION
    assert report.jobs == {"queued": 1, "succeeded": 1}
    assert report.events == 4
    assert report.large_values == 1
    assert len(LARGE) < report.large_bytes < len(LARGE) + 10
    assert report.bytes > 0


_J, _E, _S = schema.job.c, schema.event.c, schema.segment.c
SEEDED: dict[str, tuple[Callable[[Shop], sa.Executable], str, str]] = {
    "an event is gone": (
        lambda shop: sa.delete(schema.event).where(_E.job == shop.done, _E.seq == 2),
        "done",
        "its events are 2, numbered 1 to 3, and its next one would be 4",
    ),
    "all events are gone": (
        lambda shop: sa.delete(schema.event).where(_E.job == shop.open),
        "open",
        "its events are none, and its next one would be 2",
    ),
    "the terminal event tells another state": (
        lambda shop: sa.update(schema.job).where(_J.id == shop.done).values(state="failed"),
        "done",
        "it is failed, and its last event says succeeded",
    ),
    "there is no terminal event": (
        lambda shop: sa.update(schema.event).where(_E.job == shop.done, _E.seq == 3).values(type="noted"),
        "done",
        "it is succeeded, and its last event says nothing of it",
    ),
    "a terminal event in the middle": (
        lambda shop: sa.update(schema.event).where(_E.job == shop.done, _E.seq == 2).values(type="ended"),
        "done",
        "its event 2 says that it has ended, and it has not, or goes on after that",
    ),
    "a terminal event of an open job": (
        lambda shop: sa.update(schema.event).where(_E.job == shop.open).values(type="ended"),
        "open",
        "its event 1 says that it has ended, and it has not, or goes on after that",
    ),
    "an ended job with an open segment": (
        lambda shop: sa.update(schema.segment).where(_S.job == shop.done).values(state="queued"),
        "done",
        "it is succeeded, and a segment of it is still open",
    ),
    "an open job without a segment": (
        lambda shop: sa.delete(schema.segment).where(_S.job == shop.open),
        "open",
        "it is queued, and has no open main segment: nobody can go on with it",
    ),
    "a side segment that nothing was handed out for": (
        lambda shop: sa.insert(schema.segment).values(
            job=shop.open, id=2, state="queued", attempt=0, crashes=0, priority=0, flow="f", order_seq=1
        ),
        "open",
        "its segment 2 has no event that says what it executes",
    ),
    "a segment held by a stranger": (
        lambda shop: sa.update(schema.segment).where(_S.job == shop.open).values(state="running", holder="stranger"),
        "open",
        "its segment 1 is running, held by stranger, which is not a process",
    ),
    "a running segment that nobody holds": (
        lambda shop: sa.update(schema.segment).where(_S.job == shop.open).values(state="running"),
        "open",
        "its segment 1 is running, held by nobody, which is not a process",
    ),
    "a graph that is gone": (
        lambda shop: sa.update(schema.job).where(_J.id == shop.open).values(graph="g2"),
        "open",
        "its graph g2 is gone",
    ),
}


@pytest.mark.parametrize("fault", SEEDED)
async def test_a_fault_is_found_with_its_job(fault: str, shop: Shop) -> None:
    statement, whose, what = SEEDED[fault]
    shop.change(statement(shop))
    assert (getattr(shop, whose), what) in shop.found()


async def test_a_main_segment_that_waits_for_no_side_segment_is_found(shop: Shop) -> None:
    shop.change(sa.update(schema.job).where(_J.id == shop.open).values(state="running"))
    shop.change(sa.update(schema.segment).where(_S.job == shop.open).values(state="waiting"))
    assert (shop.open, "its main segment waits for side segments, of which none is open") in shop.found()


async def test_nothing_is_wrong_with_side_segments_that_were_only_used(shop: Shop) -> None:
    ledger = SqlLedger(shop.url, SystemClock())
    await ledger.join(ME, nobody)
    mains = [await claimed(ledger) for _ in range(3)]
    for main in mains:
        await record(ledger, main, handed_out(2, "a"), handed_out(3, "b"), end=Pause("handed_out", None, 3))
    assert [claim.segment for claim in await ledger.claim(ME, 2)] == [1, 2]
    for main in mains[:2]:
        await ledger.cancel(main.job.id, [CANCEL])
    assert shop.keeper.check().problems == []
    await ledger.close()


async def test_what_belongs_to_no_job_is_found(shop: Shop) -> None:
    shop.change(sa.delete(schema.job).where(_J.id == shop.done))
    told = [what for job, what in shop.found() if job == shop.done]
    for kind in ("events", "segments", "claims", "large values", "aliases"):
        assert f"there is no such job, but {kind} of it" in told


async def test_a_large_value_that_is_gone_is_found(shop: Shop) -> None:
    shop.change(sa.delete(schema.blob))
    ((job, what),) = shop.found()
    assert job == shop.done
    assert what.startswith("its large value ")
    assert what.endswith(" is gone or cut off")


async def test_a_large_value_that_would_be_swept_is_found(shop: Shop) -> None:
    shop.change(sa.delete(schema.blob_use))
    found = shop.found()
    assert {job for job, _ in found} == {shop.done}
    assert [what.partition(" refers to the large value ")[0] for _, what in found] == ["its event 2", "it"]


async def test_faults_are_found_beyond_the_first_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "_PAGE", 1)
    assert shop.found() == []
    shop.change(sa.delete(schema.blob_use))
    assert len(shop.found()) == 2


async def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    shop = Shop(f"sqlite:///{tmp_path}/ledger.db")
    await shop.fill()
    shop.keeper.vacuum(0.0, None)  # brings all of it into the file
    file = tmp_path / "ledger.db"
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 9] = b"\xff" * (4096 * 6)
    file.write_bytes(content)
    found = shop.found()
    assert found
    assert all(job is None and what.startswith("the database is damaged: ") for job, what in found)


async def test_a_check_while_others_write_sees_one_state(shop: Shop) -> None:
    ledger = SqlLedger(shop.url, shop.clock)
    await ledger.join(ME, lambda: None)
    claims = [await claimed(ledger) for _ in range(3)]
    assert shop.found() == []
    for claim in claims:
        await record(ledger, claim, end=Settlement(SUCCEEDED))
    assert shop.found() == []
    await ledger.close()


# ------------------------------------------------------------------------------------------------------------- vacuum
async def test_what_is_kept_no_longer_is_removed(shop: Shop) -> None:
    now = shop.clock.now()
    cleaned = shop.keeper.vacuum(now + 29 * DAY, timedelta(days=30))
    assert (cleaned.jobs, cleaned.graphs, cleaned.large_values, cleaned.is_compacted) == (0, 0, 0, True)
    cleaned = shop.keeper.vacuum(now + 31 * DAY, timedelta(days=30))
    assert (cleaned.jobs, cleaned.large_values) == (1, 0)
    report = shop.keeper.check()
    assert (report.problems, report.jobs, report.large_values) == ([], {"queued": 1}, 1)
    assert shop.keeper.vacuum(now + 31.5 * DAY, timedelta(days=30)).large_values == 0
    assert shop.keeper.vacuum(now + 32.5 * DAY, timedelta(days=30)).large_values == 1
    assert shop.keeper.check().large_values == 0


@pytest.mark.parametrize("retention", [None, timedelta(days=30)])
async def test_a_process_removes_large_values_a_day_after_their_jobs(shop: Shop, retention: timedelta | None) -> None:
    ledger = SqlLedger(shop.url, shop.clock, retention=retention)
    assert await ledger.forget([shop.done]) == [shop.done]
    assert await ledger.trim() == []
    assert shop.keeper.check().large_values == 1
    await shop.clock.advance(DAY + 1)
    assert await ledger.trim() == []
    await ledger.close()
    report = shop.keeper.check()
    assert (report.large_values, report.problems) == (0, [])


async def test_a_large_value_that_another_job_has_outlives_the_first(shop: Shop) -> None:
    first, shop.done = shop.done, ""
    await shop.fill()
    ledger = SqlLedger(shop.url, shop.clock)
    await ledger.forget([first])
    await shop.clock.advance(DAY + 1)
    await ledger.trim()
    assert (await ledger.get(shop.done)).result == LARGE
    await ledger.close()
    assert shop.found() == []


async def test_without_retention_jobs_are_kept(shop: Shop) -> None:
    assert shop.keeper.vacuum(shop.clock.now() + 10_000 * DAY, None).jobs == 0
    assert shop.keeper.check().jobs == {"queued": 1, "succeeded": 1}


async def test_graphs_that_no_job_has_are_removed(shop: Shop) -> None:
    shop.change(sa.insert(schema.graph).values(digest="g9", body=b"{}"))
    assert shop.keeper.vacuum(shop.clock.now(), None).graphs == 1
    assert shop.found() == []


async def test_a_file_in_use_is_not_compacted(tmp_path: Path) -> None:
    shop = Shop(f"sqlite:///{tmp_path}/ledger.db")
    await shop.fill(leave=False)
    assert not shop.keeper.vacuum(shop.clock.now(), None).is_compacted
    assert shop.found() == []


async def test_compacting_gives_room_back(tmp_path: Path) -> None:
    shop = Shop(f"sqlite:///{tmp_path}/ledger.db")
    await shop.fill()
    shop.change(sa.insert(schema.graph).values(digest="g9", body=b"x" * 5_000_000))
    cleaned = shop.keeper.vacuum(shop.clock.now(), None)
    assert cleaned.bytes_before - cleaned.bytes_after > 4_000_000


# ------------------------------------------------------------------------------------------------------------ upgrade
def test_where_there_is_no_ledger_it_is_made_by_upgrade_alone(url: str) -> None:
    keeper = Keeper(url)
    acts: list[Callable[[], Any]] = [keeper.check, lambda: keeper.vacuum(0.0, None)]
    for act in acts:
        with pytest.raises(NoLedgerError):
            act()
    assert keeper.upgrade() == (None, schema.REVISION)
    assert keeper.upgrade() == (schema.REVISION, schema.REVISION)
    assert keeper.check().jobs == {}


def test_looking_for_a_ledger_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(NoLedgerError):
        Keeper(f"sqlite:///{tmp_path}/shop/ledger.db").check()
    assert list(tmp_path.iterdir()) == []


async def test_a_ledger_of_another_version_is_left_alone(shop: Shop) -> None:
    shop.change(sa.update(schema.revision).values(version_num="0000"))
    with pytest.raises(StaleLedgerError, match="has revision 0000"):
        shop.keeper.check()
    shop.change(sa.update(schema.revision).values(version_num="9999"))
    for act in (shop.keeper.check, shop.keeper.look, shop.keeper.upgrade):
        with pytest.raises(NewerLedgerError, match=r"newer version of millstream .* upgrade millstream$") as caught:
            act()
        assert isinstance(caught.value, UnfitLedgerError)


def test_a_url_that_names_no_ledger_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        Keeper("mysql://me:s3cr3t@db/jobs")
    assert "s3cr3t" not in str(caught.value)
