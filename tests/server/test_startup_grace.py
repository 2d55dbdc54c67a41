"""A reader of a job that the ledger does not have yet: waited for where its id is new, else refused at once."""

from uuid import UUID

import pytest

from millstream.clock import SystemClock, new_id
from millstream.errors import JobNotFoundError
from millstream.server.builds.grace import once_known


class Ledger:
    """Has a job from the third look on, or never."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.asked = 0

    async def find(self) -> str:
        self.asked += 1
        if self.asked < self.looks:
            raise JobNotFoundError
        return "found"


async def test_a_job_whose_id_is_new_is_waited_for() -> None:
    ledger = Ledger(3)
    assert await once_known(ledger.find, new_id(), 30.0, SystemClock()) == "found"


@pytest.mark.parametrize(
    "job_id",
    [
        "0118898d-9090-435d-9b29-9794627703f8",
        "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f",
        "no id",
        "ffffffff-ffff-7b1e-9d3f-1b2a3c4d5e6f",
    ],
)
async def test_what_was_guessed_or_is_old_is_refused_at_the_first_look(job_id: str) -> None:
    ledger = Ledger(100)
    with pytest.raises(JobNotFoundError):
        await once_known(ledger.find, job_id, 30.0, SystemClock())
    assert ledger.asked == 1


async def test_without_a_grace_nothing_is_waited_for() -> None:
    ledger = Ledger(3)
    with pytest.raises(JobNotFoundError):
        await once_known(ledger.find, new_id(), 0.0, SystemClock())
    assert ledger.asked == 1


class LateClock(SystemClock):
    """Tells when an id was made, and each time it is asked a second later."""

    def __init__(self, job_id: str) -> None:
        self._seconds = (UUID(job_id).int >> 80) / 1000

    def now(self) -> float:
        self._seconds += 1.0
        return self._seconds


async def test_the_grace_ends() -> None:
    ledger, job_id = Ledger(1000), new_id()
    with pytest.raises(JobNotFoundError):
        await once_known(ledger.find, job_id, 2.5, LateClock(job_id))
    assert ledger.asked == 3
