"""The benchmarks measure what they say: every shape runs and checks its own result; no test looks at a time."""

import asyncio
from pathlib import Path

import pytest

from benchmarks import appends, environments, fleet, flow_servers, million, recovery, report, serving, workers
from benchmarks.measure import Worker, side_by_side, start
from benchmarks.own import OWN
from benchmarks.scenes import SCENES, Scene
from benchmarks.shapes import BY_NAME, CANVASES, DURABLE_SHAPES, SHAPES


def test_every_shape_runs_on_millstream_and_on_the_floor() -> None:
    workers, missing = start(["millstream", "floor", "in-place"])
    try:
        answers = {
            (name, shape.name): worker.ask(do="shape", name=shape.name, times=1)
            for name, worker in workers.items()
            for shape in SHAPES
        }
    finally:
        for worker in workers.values():
            worker.close()
    assert not missing
    assert {key for key, answer in answers.items() if "seconds" not in answer} == {("in-place", "waits")}
    assert answers["in-place", "waits"] == {"unsupported": "one wait after the other would take 100 s"}


def test_durable_shapes_run_on_each_database_beside_the_physical_line() -> None:
    for system in ("millstream-sqlite", "millstream-sqlite-pure", "millstream-postgres", "sqlite-commits"):
        with Worker(system) as worker:
            for shape in DURABLE_SHAPES:
                assert worker.ask(do="shape", name=shape.name, times=1)["seconds"] > 0


def test_canvases_run_in_memory_and_on_sqlite() -> None:
    for system in ("millstream-canvas", "millstream-canvas-sqlite"):
        with Worker(system) as worker:
            for shape in CANVASES:
                assert worker.ask(do="shape", name=shape.name, times=1)["seconds"] > 0


def played(system: str, *scenes: Scene) -> dict[str, list[float]]:
    """Return the figures of a system in each scene that it takes part in."""
    with workers.started([system]) as (processes, missing):
        assert not missing
        return {
            scene.name: processes[system].ask(do="scene", name=scene.name)["figures"]
            for scene in scenes
            if system in scene.systems
        }


def test_workers_play_a_scene() -> None:
    (figures,) = played("workers-sqlite", SCENES[0]).values()
    assert min(figures) > 0


@pytest.mark.matrix
@pytest.mark.parametrize("system", ["workers-sqlite", "workers-prefork", "workers-postgres"])
def test_workers_play_every_scene_that_they_take_part_in(system: str) -> None:
    found = played(system, *SCENES)
    assert set(found) == {scene.name for scene in SCENES if system in scene.systems}
    assert all(min(figures) > 0 for figures in found.values())


def test_submits_are_timed_one_by_one() -> None:
    with Worker("millstream-sqlite") as worker:
        seconds = worker.ask(do="submits", count=20, at_once=4)["seconds"]
    assert len(seconds) >= 20
    assert min(seconds) > 0


def test_a_killed_process_is_recovered_from() -> None:
    assert recovery.stands_still() > 0


def test_a_ledger_is_filled_with_ended_jobs() -> None:
    figures = asyncio.run(million.acts(3000))
    assert all(seconds > 0 for seconds in figures.values())


def test_our_own_figures_are_taken() -> None:
    with Worker("millstream") as worker:
        assert all(worker.ask(do="own", name=own.name, times=1)["seconds"] > 0 for own in OWN)


@pytest.mark.matrix
def test_a_flow_server_is_measured_alone_where_the_other_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(flow_servers.LANGFLOW, raising=False)
    monkeypatch.setattr(serving, "ROUND_SECONDS", 0.1)
    monkeypatch.setattr(serving, "STARTS", 1)
    monkeypatch.setattr(serving, "READERS", 40)
    figures = serving.play(1)
    assert flow_servers.LANGFLOW in figures["missing"]["Langflow"]
    assert figures["readers"]["readers"] == 40
    assert all(min(one["rates"]) > 0 for case in serving.CASES for one in figures[f"{case[0]} {case[1]}"])
    assert "not there: set BENCHMARKS_LANGFLOW" in capsys.readouterr().out


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environments, "HOME", tmp_path)
    monkeypatch.setitem(environments.PEERS, "langgraph", ("no requirement at all",))
    workers, missing = start(["langgraph"])
    assert not workers
    assert "no requirement at all" in missing["langgraph"]
    assert "langgraph                       not installed: ERROR" in report.shape_lines(BY_NAME["fan"], [], missing)


def test_a_system_that_fails_is_named_with_the_reason() -> None:
    with Worker("floor") as worker:
        (figure,) = side_by_side({"floor": worker}, 1, {"do": "shape", "name": "no such shape"})
    assert (figure.rounds, figure.reason) == ([], "failed: KeyError: 'no such shape'")


@pytest.mark.matrix
def test_a_second_server_process_is_measured_beside_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "ROUND_SECONDS", 0.2)
    assert all(rate > 0 for rates in fleet.builds("sqlite", 1).values() for rate in rates)


def test_appends_to_redis_are_measured_beside_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "EVENTS", 2000)
    assert all(rate > 0 for rates in appends.measure(1).values() for rate in rates)


@pytest.mark.matrix
@pytest.mark.parametrize("queue", fleet.QUEUES)
def test_cancels_by_another_server_process_are_timed(queue: str) -> None:
    assert min(fleet.cancels(queue, 3)) > 0


@pytest.mark.matrix
def test_a_build_of_a_killed_server_process_is_timed() -> None:
    assert fleet.takeover(is_apart=False) > 0


@pytest.mark.matrix
def test_readers_and_memory_of_server_processes_are_measured() -> None:
    assert fleet.readers(40)["readers"] == 40
    assert all(bytes_ > 0 for bytes_ in fleet.memory().values())
