"""A server process that dies, stands still or is stopped takes nothing with it: another one goes on with its builds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.server.fleet import Fleet, effects
from tests.server.fleet_readers import Reader, check_complete


def hold(home: Path, number: int) -> Path:
    """Let the walks of a directory wait in a step, until the file that is returned is removed."""
    held = home / f"hold-{number}"
    held.touch()
    return held


def test_what_a_killed_process_built_another_ends_and_no_reader_misses_anything(fleet: Fleet) -> None:
    held = hold(fleet.home, 3)
    job_id = fleet.build("walk", home=str(fleet.home))
    first = fleet.holder(job_id)
    other, last = fleet.others(first)[:2]
    readers = [Reader(fleet, job_id, first, other), Reader(fleet, job_id, other), Reader(fleet, job_id, last)]
    for reader in readers:
        reader.wait_for(lambda reader: [seen.event for seen in reader.seen].count("end_vertex") == 2)
    first.kill()
    held.unlink()
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    assert [reader.cuts for reader in readers] == [1, 0, 0]
    began = Counter(number for what, number, _ in effects(fleet.home) if what == "began")
    assert began == {1: 1, 2: 1, 3: 2, 4: 1}, "finished steps are not taken again"
