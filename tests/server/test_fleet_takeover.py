"""A server process that dies, stands still or is stopped takes nothing with it: another one goes on with its builds."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.server.fleet import WITHOUT_PROOF, Fleet, ServerProcess, effects, hold, until
from tests.server.fleet_readers import Reader, check_complete, replay

LEASE_SECONDS, SCAN_SECONDS = 1.0, 2.0


@pytest.fixture(scope="module")
def fleet_settings() -> dict[str, str]:
    return {"lease_seconds": "60", "drain_grace": "1"}


def began(home: Path) -> Counter[int]:
    """Return how often each step was begun."""
    return Counter(number for what, number, _ in effects(home) if what == "began")


def await_begun(home: Path, number: int, *but: ServerProcess) -> int:
    """Wait until a step is begun by a process other than some, and return which."""
    pids = {process.pid for process in but}

    def beginner() -> int | None:
        steps = effects(home)
        return next((pid for what, step, pid in steps if (what, step) == ("began", number) and pid not in pids), None)

    return until(beginner)


def held_at_3(fleet: Fleet, home: Path) -> tuple[str, ServerProcess, Path]:
    """Begin a walk that waits in its third step; return its job, who runs it, and what holds it."""
    held = hold(home, 3)
    job_id = fleet.build("walk", home=str(home))
    await_begun(home, 3)
    return job_id, fleet.holder(job_id), held


def test_what_a_killed_process_built_goes_on_at_once_elsewhere_and_no_reader_misses_anything(
    fleet: Fleet, tmp_path: Path
) -> None:
    job_id, first, held = held_at_3(fleet, tmp_path)
    other, last = fleet.others(first)[:2]
    readers = [Reader(fleet, job_id, first, other), Reader(fleet, job_id, other), Reader(fleet, job_id, last)]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    first.kill()
    killed = time.monotonic()
    await_begun(tmp_path, 3, first)
    assert time.monotonic() - killed < 10 * SCAN_SECONDS, "its lease would have been 60 s"
    held.unlink()
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    assert [len(reader.cuts) for reader in readers] == [1, 0, 0]
    assert began(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1}, "finished steps are not taken again"


@pytest.mark.matrix
def test_without_proof_of_its_death_its_lease_has_to_run_out_first(fleet: Fleet, tmp_path: Path) -> None:
    lease = {"lease_seconds": f"{LEASE_SECONDS}"}
    held = hold(tmp_path, 3)
    with fleet.another(lease, [WITHOUT_PROOF]) as first:
        job_id = fleet.build("walk", first, home=str(tmp_path))
        await_begun(tmp_path, 3)
        assert fleet.holder(job_id).pid == first.pid
        readers = [Reader(fleet, job_id, first), *(Reader(fleet, job_id, one) for one in fleet.others(first))]
        for reader in readers:
            reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
        first.kill()
        killed = time.monotonic()
        await_begun(tmp_path, 3, first)
        assert time.monotonic() - killed < 5 * (LEASE_SECONDS + SCAN_SECONDS)
        held.unlink()
        check_complete(fleet, job_id, readers)
    assert began(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1}


@pytest.mark.matrix
def test_a_process_that_stood_still_while_another_ended_its_build_emits_nothing_more(
    fleet: Fleet, tmp_path: Path
) -> None:
    stops = f"from tests.lifeline import stop_at; stop_at('before-effect', 3, {fleet.url!r})"
    with fleet.another({"lease_seconds": f"{LEASE_SECONDS}"}, [stops]) as zombie:
        held = hold(tmp_path, 2)
        job_id = fleet.build("walk", zombie, home=str(tmp_path))
        on_zombie = Reader(fleet, job_id, zombie)
        readers = [Reader(fleet, job_id, one) for one in fleet.others(zombie)]
        for reader in [on_zombie, *readers]:
            reader.wait_for(lambda reader: reader.count("end_vertex") == 1)
        held.unlink()
        for reader in readers:
            reader.wait_end()
        zombie.resume()
        await_begun(tmp_path, 3, *fleet.others(zombie))
        until(lambda: zombie.pid in fleet.witness.members())
        told = check_complete(fleet, job_id, [*readers, on_zombie])
        late = [replay(fleet, job_id, process) for process in fleet.processes()]
    assert told[-1].data["status"] == "succeeded"
    assert [line for line in effects(tmp_path) if line[2] == zombie.pid and line[1] > 3] == []
    for seen in [*(reader.seen for reader in [*readers, on_zombie]), *late]:
        assert not [one for one in seen if one.event == "token" and one.data["chunk"].startswith(f"3.0@{zombie.pid}")]


def test_a_process_that_is_asked_to_stop_hands_on_what_does_not_end_in_its_grace(fleet: Fleet, tmp_path: Path) -> None:
    job_id, first, held = held_at_3(fleet, tmp_path)
    other, last = fleet.others(first)[:2]
    readers = [Reader(fleet, job_id, first, other), Reader(fleet, job_id, other), Reader(fleet, job_id, last)]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    first.stop()
    gone = time.monotonic()
    await_begun(tmp_path, 3, first)
    assert time.monotonic() - gone < 10.0, "it said so to the others"
    held.unlink()
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    assert [reader.cuts for reader in readers] == [[None], [], []], "the stream ended in order"
    assert began(tmp_path) == {1: 1, 2: 1, 3: 2, 4: 1}


@pytest.mark.matrix
def test_a_process_that_is_asked_to_stop_lets_end_what_ends_in_its_grace(fleet: Fleet, tmp_path: Path) -> None:
    held = hold(tmp_path, 3)
    with fleet.another({"drain_grace": "60"}) as first:
        job_id = fleet.build("walk", first, home=str(tmp_path))
        await_begun(tmp_path, 3)
        reader = Reader(fleet, job_id, first)
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
        first.ask_to_stop()
        reader.wait_for(lambda reader: reader.cuts)
        held.unlink()
        first.wait()
        assert reader.cuts == [None]
        check_complete(fleet, job_id, [reader])
    assert {pid for _, _, pid in effects(tmp_path)} == {first.pid}
