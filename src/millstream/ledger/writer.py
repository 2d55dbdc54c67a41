"""The one thread of a process that writes to its ledger: whatever waits becomes one transaction, without any timer."""

from __future__ import annotations

import asyncio
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary

from millstream import points
from millstream.clock import chance
from millstream.errors import MillstreamError
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.blobs import Blobs
from millstream.ledger.database import CollisionError, Connection, Database, UnknownOutcomeError, transaction
from millstream.ledger.fork import between_forks
from millstream.ledger.items import Change, Item, Record, Task
from millstream.ledger.relief import Relief
from millstream.ledger.shortage import Shortage
from millstream.log import get_logger

_log = get_logger("millstream.ledger")

_OF_ALL = (LedgerUnavailableError, StorageFullError, CollisionError, UnknownOutcomeError)
"""What concerns a whole transaction; anything else is about one of its items."""

_MOST_ROWS = 2000
_RETRY_SECONDS = 1.0
_MOST_COLLISIONS = 50
_SETTLED_AFTER = 16
"""Transactions after which a process counts as one that writes much."""

_SWITCH_SECONDS = 0.001


class Work(Protocol):
    """One transaction's worth of items."""

    def write(self, items: Sequence[Item]) -> None:
        """Give each item its outcome, and write what it takes."""

    def keep(self) -> None:
        """Take note that the transaction is committed."""


class Beat(Protocol):
    """What has to be done now and then, whether or not there is something to write: renewing leases."""

    def due_in(self) -> float:
        """Return the seconds until the next beat."""

    def __call__(self, connection: Connection) -> None:
        """Do it; with transactions of its own."""

    def missed(self, error: Exception) -> None:
        """Take note that it could not be done."""

    def is_mine(self, member: str) -> bool:
        """Return whether a member is one of this process, and alive as far as it knows."""


class Writer:
    """Writes what it is handed, in order.

    Args:
        database: Where.
        work: Returns a new transaction's worth.
        beat: What is done between.
        prepare: Called with each new connection.
        blobs: Where large values are written to, as far as that need not be in the transaction.
    """

    def __init__(
        self,
        database: Database,
        work: Callable[[Connection], Work],
        beat: Beat,
        prepare: Callable[[Connection], None],
        blobs: Blobs,
    ) -> None:
        """Start nothing yet."""
        self._database = database
        self._blobs = blobs
        self._work = work
        self._beat = beat
        self._prepare = prepare
        self._queue: queue.SimpleQueue[list[Item] | None] = queue.SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Item]] = {}
        self._reliefs: WeakKeyDictionary[asyncio.AbstractEventLoop, Relief] = WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._writes = 0
        self._shortage = Shortage()
        self._has_beaten = True
        self._patient_until = math.inf
        self._lost: set[str] = set()

    # ---------------------------------------------------------------------------------------------- on event loops
    def put(self, item: Item) -> None:
        """Take an item; all that one turn of a loop brings is handed to the thread at once."""
        turn = self._turns.get(item.loop)
        if turn is None:
            turn = self._turns[item.loop] = []
            item.loop.call_soon(self._hand_over, item.loop)
        turn.append(item)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        turn = self._turns.pop(loop)
        relief = self._reliefs.get(loop)
        if relief is None:
            relief = self._reliefs[loop] = Relief()
        relief.begin(len(turn))
        self._queue.put(turn)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        # A commit takes the interpreter's lock some fifteen times. Beside a loop with long turns it waits each time as
        # long as this interval, 5 ms unless somebody set another: beside turns of 5 ms the slowest took 67 ms, and 11
        # with an interval of 1 ms.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        self._thread = threading.Thread(target=self._run, name="millstream-ledger-writer", daemon=True)
        self._thread.start()

    def hasten(self, seconds: float) -> None:
        """Keep what cannot be written for so many seconds more, and no longer; until `stop`."""
        self._patient_until = min(self._patient_until, time.monotonic() + seconds)

    def stop(self) -> None:
        """Write what was handed over, and end the thread; blocks until then. What is put later starts another."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self._patient_until = math.inf

    # --------------------------------------------------------------------------------------------------- the thread
    def _run(self) -> None:
        kept: list[Item] = []
        is_last = False
        while not is_last:
            waiting, is_last = self._take(_RETRY_SECONDS if kept else self._beat.due_in())
            with between_forks():
                if self._beat.due_in() <= 0:
                    self._keep_beating()
                if kept or waiting:
                    kept = self._write([*kept, *waiting])
                    self._settle_in()
            if not kept and self._has_beaten:
                self._shortage.over()
        self._refuse_all(kept, LedgerUnavailableError("the ledger was closed before it could be written to"))
        self._deliver(kept)
        self._disconnect()

    def _take(self, seconds: float) -> tuple[list[Item], bool]:
        """Wait for items; return what is there, up to what makes a good transaction, and whether it is the last."""
        taken: list[Item] = []
        rows = 0
        with suppress(queue.Empty):
            turn = self._queue.get(timeout=max(seconds, 0.0))
            while turn is not None:
                taken += turn
                rows += sum(item.rows for item in turn)
                if rows >= _MOST_ROWS:
                    return taken, False
                turn = self._queue.get_nowait()
            return taken, True
        return taken, False

    def _keep_beating(self) -> None:
        try:
            self._beat(self._connected())
            self._has_beaten = True
        except Exception as error:  # noqa: BLE001  whatever stops a beat must not stop the thread
            meaning = self._meaning(error)
            self._has_beaten = False
            self._beat.missed(meaning)
            if isinstance(meaning, StorageFullError):
                self._shortage.met(meaning)

    def _write(self, items: list[Item]) -> list[Item]:
        """Write items, tell what became of them, and return those that are to be tried again."""
        late = [item for item in items if item.holder in self._lost]
        self._refuse_all(late, LedgerUnavailableError("what came before it was not written"))
        self._deliver(late)
        together = [item for item in items if not isinstance(item, Task) and item not in late]
        ready, kept = self._with_blobs(together)
        kept += self._attempt(ready, self._one_transaction) if ready else []
        for item in items:
            if isinstance(item, Task):
                self._attempt([item], self._one_task)
        return kept

    def _with_blobs(self, items: list[Item]) -> tuple[list[Item], list[Item]]:
        """Write the large values of items; return those that are ready, and those that are to be tried again.

        Where one's cannot be written, it alone is refused, or kept together with what its job records after it. What
        others want of such a job is refused, as it would be if nothing had room.
        """
        if not any(item.large for item in items):
            return items, []
        ready: list[Item] = []
        kept: list[Item] = []
        hindered: dict[str | None, Exception] = {}
        for item in items:
            job_id = _job_of(item)
            error = hindered.get(job_id) or self._prepare_large(item)
            if error is None:
                ready.append(item)
                continue
            if isinstance(error, _OF_ALL):
                if isinstance(item, Record):
                    hindered[job_id] = error
                if self._kept([item], error):
                    kept.append(item)
                    continue
            item.refuse(error)
            self._deliver([item])
        return ready, kept

    def _prepare_large(self, item: Item) -> Exception | None:
        """Write an item's large values, and return why that cannot be done."""
        try:
            if item.large and item.is_wanted:
                self._blobs.prepare(item.large)
        except Exception as error:  # noqa: BLE001  sorted by what it means
            return error
        return None

    def _attempt(self, items: list[Item], write: Callable[[list[Item]], None]) -> list[Item]:
        """Write items as often as it takes, tell what became of them, and return those to be tried again later."""
        kept: list[Item] = []
        collisions = 0
        while True:
            old = self._connection
            try:
                write(items)
                break
            except Exception as error:  # noqa: BLE001  sorted by what it means
                was_broken = old is not None and old.is_broken  # asked now: to close it breaks it too
                meaning = self._meaning(error)
            if isinstance(meaning, CollisionError) and collisions < _MOST_COLLISIONS:
                collisions += 1
                time.sleep(chance() * 0.002 * collisions)
            elif isinstance(meaning, LedgerUnavailableError) and was_broken:
                _log.info("a connection to the ledger broke; going on with a new one", why=str(meaning))
            elif write == self._one_transaction and not isinstance(meaning, _OF_ALL):
                _log.warning("a transaction failed, and is made again item by item", error=str(meaning))
                write = self._one_by_one
            else:
                if isinstance(meaning, LedgerUnavailableError | StorageFullError):
                    kept = self._kept(items, meaning)
                items = [item for item in items if item not in kept]
                self._refuse_all(items, meaning)
                break
        self._deliver(items)
        return kept

    def _kept(self, items: list[Item], error: MillstreamError) -> list[Item]:
        """Return those of the items that could not be written now that are tried again.

        A member that has lost one record records nothing more: later ones would stand in the ledger without it.
        """
        is_patient = time.monotonic() < self._patient_until
        kept = [item for item in items if is_patient and item.holder is not None and self._beat.is_mine(item.holder)]
        lost = {item.holder for item in items if item.holder is not None and item not in kept}
        self._lost |= lost
        if isinstance(error, StorageFullError):
            if kept:
                self._shortage.met(error)
            elif lost:
                self._shortage.lost()
        return kept

    def _one_transaction(self, items: list[Item]) -> None:
        connection = self._connected()
        work = self._work(connection)
        wanted = [item for item in items if item.is_wanted]
        with transaction(connection):
            work.write(wanted)
            points.reach("in-commit")
        work.keep()

    def _one_by_one(self, items: list[Item]) -> None:
        """Write items each under a savepoint, so that a bad one fails alone."""
        connection = self._connected()
        done: list[Work] = []
        with transaction(connection):
            for item in items:
                if item.is_wanted:
                    done += self._under_savepoint(connection, item)
        for work in done:
            work.keep()

    def _under_savepoint(self, connection: Connection, item: Item) -> list[Work]:
        work = self._work(connection)
        connection.change("SAVEPOINT item")
        try:
            work.write([item])
        except Exception as bad:
            if isinstance(self._database.explain(bad) or bad, _OF_ALL):
                raise
            connection.change("ROLLBACK TO SAVEPOINT item")
            item.refuse(bad)
            return []
        connection.change("RELEASE SAVEPOINT item")
        return [work]

    def _one_task(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, Task) and item.is_wanted:
                item.outcome = item.work(self._connected())

    def _refuse_all(self, items: Sequence[Item], error: Exception) -> None:
        for item in items:
            item.refuse(error)

    def _deliver(self, items: Sequence[Item]) -> None:
        try:
            points.reach("after-commit")
        except Exception:  # noqa: BLE001  what is committed is committed
            _log.warning("something failed after a commit", exc_info=True)
        by_loop: dict[asyncio.AbstractEventLoop, list[Item]] = {}
        for item in items:
            by_loop.setdefault(item.loop, []).append(item)
        for loop, told in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, told, self._reliefs[loop])

    # -------------------------------------------------------------------------------------------------- connection
    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._database.connect()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _settle_in(self) -> None:
        self._writes += 1
        if self._writes != _SETTLED_AFTER or self._connection is None:
            return
        try:
            self._connection.settle_in()
        except Exception as error:  # noqa: BLE001  it is no more than a matter of speed
            _log.info("the ledger's log could not be grown", error=str(error))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be broken in any way
                connection.close()

    def _meaning(self, error: Exception) -> Exception:
        meaning = error if isinstance(error, MillstreamError) else self._database.explain(error)
        if isinstance(meaning, LedgerUnavailableError):
            self._disconnect()
        return meaning or error


def _job_of(item: Item) -> str | None:
    match item:
        case Record():
            return item.claim.job.id
        case Change():
            return item.job_id
    return None


def _tell(items: Sequence[Item], relief: Relief) -> None:
    relief.end(len(items))
    for item in items:
        try:
            item.deliver()
        except Exception:  # noqa: BLE001  what one waiter makes of its answer must not keep the others from theirs
            _log.exception("an answer of the ledger could not be delivered")
