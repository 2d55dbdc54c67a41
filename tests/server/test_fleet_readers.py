"""Whichever process a client asks, and whenever it comes: it reads one and the same story of a build."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.fleet import Combination, Fleet, ServerProcess, build, hold
from tests.server.fleet_readers import Reader, Seen, check_complete, replay

READERS = 50
POLL_SECONDS = 0.2
PROMPT_SECONDS = 1.0
"""What a poll takes beyond the time that it waits; asserted at ten times that."""


def shared(combination: Combination, seen: list[Seen]) -> list[Seen]:
    """Return of events those that all processes see: tokens too, where Redis carries them."""
    return [one for one in seen if one.is_durable or combination.queue == "redis"]


def digest(seen: list[Seen]) -> str:
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def test_fifty_readers_over_all_processes_read_the_same(combination: Combination, fleet: Fleet, tmp_path: Path) -> None:
    held = hold(tmp_path, 1)
    job_id = fleet.build("walk", home=str(tmp_path), tokens=20)
    processes = fleet.processes()
    readers = [Reader(fleet, job_id, processes[number % len(processes)]) for number in range(READERS)]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("build_start"))
    held.unlink()
    check_complete(fleet, job_id, readers)
    assert {len(reader.cuts) for reader in readers} == {0}
    late = [replay(fleet, job_id, process) for process in processes]
    stories = [shared(combination, seen) for seen in [*(reader.seen for reader in readers), *late]]
    assert len({digest(story) for story in stories}) == 1
    if combination.queue == "redis":
        assert [seen.event for seen in stories[0]].count("token") == 80


def test_after_every_event_the_rest_is_read_from_another_process(
    combination: Combination, fleet: Fleet, tmp_path: Path
) -> None:
    job_id = fleet.build("walk", home=str(tmp_path))
    first = fleet.processes()[0]
    whole = Reader(fleet, job_id, first).wait_end().seen
    told = shared(combination, replay(fleet, job_id, first))
    assert shared(combination, whole) == told
    for process in fleet.processes():
        for place, seen in enumerate(told):
            rest = [one for one in told[place + 1 :] if one.cursor > seen.cursor]
            assert shared(combination, replay(fleet, job_id, process, str(seen.cursor))) == rest


def test_who_changes_the_process_after_each_event_of_a_running_build_misses_none(
    combination: Combination, fleet: Fleet, tmp_path: Path
) -> None:
    steps = 6
    holds = [hold(tmp_path, number + 1) for number in range(steps)]
    job_id = fleet.build("walk", home=str(tmp_path), steps=steps)
    staying = [Reader(fleet, job_id, process) for process in fleet.processes()]
    found: list[Seen] = []
    for number, held in enumerate(holds):
        wanted = number * 3 if combination.queue == "redis" else 0
        process = fleet.processes()[number % 3]
        reader = Reader(fleet, job_id, process, after=str(found[-1].cursor) if found else None)
        reader.wait_for(lambda reader: reader.count("end_vertex") or reader.count("build_start"))
        reader.leave()
        found += reader.seen
        held.unlink()
        assert len([seen for seen in found if seen.event == "token"]) >= wanted
    found += Reader(fleet, job_id, fleet.processes()[1], after=str(found[-1].cursor)).wait_end().seen
    check_complete(fleet, job_id, staying)
    assert shared(combination, found) == shared(combination, staying[0].seen)


def test_a_poll_of_another_process_gives_what_is_there_and_never_hangs(
    combination: Combination, fleet: Fleet, tmp_path: Path
) -> None:
    held = hold(tmp_path, 3)
    with fleet.client() as client:
        job_id = build(client, "walk", home=str(tmp_path))
    runs = fleet.holder(job_id)
    asked = [*fleet.others(runs), runs]
    cursors = dict.fromkeys(range(len(asked)), "0-0")
    told: dict[int, list[str]] = {number: [] for number in cursors}
    for number, process in enumerate(asked):
        before = ""
        while told[number].count("end_vertex") < 2 or cursors[number] != before:
            before = cursors[number]
            cursors[number] = polled(fleet, process, job_id, before, told[number])
    held.unlink()
    for number, process in enumerate(asked):
        while "end" not in told[number]:
            cursors[number] = polled(fleet, process, job_id, cursors[number], told[number])
        assert polled(fleet, process, job_id, cursors[number], told[number]) == cursors[number], "nothing follows"
    stories = [[event for event in events if event != "token"] for events in told.values()]
    assert len({json.dumps(story) for story in stories}) == 1
    if combination.queue == "redis":
        assert len({json.dumps(events) for events in told.values()}) == 1


def polled(fleet: Fleet, process: ServerProcess, job_id: str, after: str, told: list[str]) -> str:
    """Poll once, which does not hang, and return where to go on."""
    before = time.monotonic()
    with fleet.client(process) as client:
        query = {"event_delivery": "polling", "after": after, "wait": str(POLL_SECONDS)}
        answer = client.get(f"/api/v1/build/{job_id}/events", params=query)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - before < POLL_SECONDS + 10 * PROMPT_SECONDS
        told += [json.loads(line)["event"] for line in answer.text.split("\n") if line]
        cursor: str = answer.headers["X-Next-Cursor"]
        return cursor


@pytest.mark.matrix
def test_many_builds_are_read_elsewhere_from_where_they_run(
    combination: Combination, fleet: Fleet, tmp_path: Path
) -> None:
    processes = fleet.processes()

    def one(number: int) -> None:
        home = tmp_path / f"{number}"
        home.mkdir()
        job_id = fleet.build("walk", processes[number % 3], home=str(home), tokens=5)
        reader = Reader(fleet, job_id, processes[(number + 1) % 3]).wait_end()
        story = shared(combination, reader.seen)
        assert story == shared(combination, replay(fleet, job_id, processes[(number + 2) % 3]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(40)))
