"""The duties of a process towards its ledger, and its membership: once each, and whatever the ledger does."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from millstream.execution.membership import Membership
from millstream.execution.reconcile import Duty, Reconciler
from millstream.ledger.base import LedgerUnavailableError, StorageFullError


class Members:
    """The memberships of a ledger that can be away."""

    def __init__(self) -> None:
        self.alive: dict[str, Callable[[], None]] = {}
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def join(self, process: str, on_dead: Callable[[], None], **_how: object) -> None:
        self._answer()
        assert process not in self.alive
        self.alive[process] = on_dead
        await self.answers.wait()

    async def leave(self, process: str) -> None:
        self._answer()
        self.alive.pop(process, None)

    def bury(self, process: str) -> None:
        self.alive.pop(process)()

    def _answer(self) -> None:
        if self.is_away:
            raise LedgerUnavailableError


@pytest.fixture
def ledger() -> Members:
    return Members()


async def soon(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  what is waited for is any condition
            await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------ membership
async def test_one_joins_once_and_leaves_once(ledger: Members) -> None:
    me = Membership(lambda: None, "asyncio")
    await me.stop()
    await me.start(ledger)  # type: ignore[arg-type]
    await me.start(ledger)  # type: ignore[arg-type]
    assert list(ledger.alive) == [me.id]
    await me.stop()
    await me.stop()
    assert not ledger.alive


async def test_one_that_comes_back_has_a_new_id(ledger: Members) -> None:
    me = Membership(lambda: None, "asyncio")
    await me.start(ledger)  # type: ignore[arg-type]
    was = me.id
    await me.stop()
    await me.start(ledger)  # type: ignore[arg-type]
    assert list(ledger.alive) == [me.id] != [was]


async def test_one_that_is_taken_for_dead_drops_what_it_runs_and_goes_on_under_a_new_id(ledger: Members) -> None:
    dropped = []
    me = Membership(lambda: dropped.append(me.id), "asyncio")
    await me.start(ledger)  # type: ignore[arg-type]
    was = me.id
    ledger.is_away = True
    ledger.bury(was)
    assert dropped == [me.id]
    assert me.id != was
    with pytest.raises(LedgerUnavailableError):
        await me.revive()
    ledger.is_away = False
    await me.revive()
    assert list(ledger.alive) == [me.id]


async def test_one_that_is_stopped_while_it_joins_again_leaves_what_it_joined(ledger: Members) -> None:
    me = Membership(lambda: None, "asyncio")
    await me.start(ledger)  # type: ignore[arg-type]
    ledger.bury(me.id)
    ledger.answers.clear()
    reviving = asyncio.ensure_future(me.revive())
    await soon(lambda: ledger.alive)
    reviving.cancel()
    await asyncio.wait([reviving])
    await me.stop()
    assert not ledger.alive


async def test_one_leaves_though_the_ledger_is_away(ledger: Members) -> None:
    me = Membership(lambda: None, "asyncio")
    await me.start(ledger)  # type: ignore[arg-type]
    ledger.is_away = True
    await me.stop()
    assert len(ledger.alive) == 1


# ---------------------------------------------------------------------------------------------------------- duties
async def test_a_duty_is_done_again_and_at_once_when_it_is_asked_for() -> None:
    done = []

    async def act() -> None:
        done.append(1)

    duty = Duty("act", act, 1000.0)
    doing = Reconciler([duty])
    await doing.stop()
    await doing.start()
    await doing.start()
    await soon(lambda: len(done) == 1)
    duty.now.set()
    await soon(lambda: len(done) == 2)
    await doing.stop()
    await doing.stop()
    duty.now.set()
    await asyncio.sleep(0)
    assert len(done) == 2


async def test_one_that_waits_is_not_done_at_the_start() -> None:
    done = []

    async def act() -> None:
        done.append(1)

    other = asyncio.Event()

    async def see() -> None:
        other.set()

    doing = Reconciler([Duty("late", act, 1000.0, waits=True), Duty("early", see, 1000.0)])
    await doing.start()
    await other.wait()
    await doing.stop()
    assert not done


async def test_a_ledger_that_is_away_is_waited_for_with_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.execution.reconcile._FIRST_WAIT", 0.001)
    tries = []

    async def act() -> None:
        tries.append(1)
        if len(tries) < 5:
            raise LedgerUnavailableError

    doing = Reconciler([Duty("act", act, 1000.0)])
    with structlog.testing.capture_logs() as logs:
        await doing.start()
        await soon(lambda: len(tries) == 5)
        await asyncio.sleep(0)
        await doing.stop()
    assert [line["event"] for line in logs] == [
        "the ledger is not available; waiting for it",
        "the ledger is available again",
    ]


async def test_a_ledger_that_can_be_read_but_is_full_is_waited_for_with_one_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("millstream.execution.reconcile._FIRST_WAIT", 0.001)
    reads, writes = [], []

    async def read() -> None:
        reads.append(1)

    async def write() -> None:
        writes.append(len(reads))
        if len(writes) < 4 or writes[-1] - writes[0] < 5:
            raise StorageFullError

    doing = Reconciler([Duty("read", read, 0.0), Duty("write", write, 1000.0)])
    with structlog.testing.capture_logs() as logs:
        await doing.start()
        await soon(lambda: "the ledger is available again" in [line["event"] for line in logs])
        await doing.stop()
    assert [line["event"] for line in logs] == [
        "the ledger is not available; waiting for it",
        "the ledger is available again",
    ]


async def test_a_duty_that_fails_is_tried_again_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.execution.reconcile._FIRST_WAIT", 0.001)
    tries, others = [], []

    async def fail() -> None:
        tries.append(1)
        raise ValueError("oh")

    async def act() -> None:
        others.append(1)

    doing = Reconciler([Duty("fail", fail, 0.0), Duty("act", act, 0.0)])
    with structlog.testing.capture_logs() as logs:
        await doing.start()
        await soon(lambda: len(tries) > 2 and len(others) > 2)
        await doing.stop()
    assert {line["duty"] for line in logs} == {"fail"}
