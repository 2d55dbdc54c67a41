"""`millstream jobs` tells which jobs a ledger has and how each goes, from processes that execute none of them."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from millstream.clock import SystemClock
from millstream.ledger.sql import SqlLedger
from millstream.testing.ledger_doings import make_job, submit
from tests.integration.cli_program import millstream, started, wait_until
from tests.integration.ledger_of_shop import Shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def failed(shop: Shop) -> str:
    return shop.made("order")


@pytest.fixture(scope="module")
def succeeded(shop: Shop, failed: str) -> str:
    assert failed
    return shop.made("price", "-i", "item=apple")


@pytest.fixture(scope="module")
def queued(shop: Shop, succeeded: str) -> list[str]:
    assert succeeded
    return shop.submitted(3)


@pytest.fixture(scope="module")
def every(failed: str, succeeded: str, queued: list[str]) -> list[str]:
    """All jobs, the newest first."""
    return [*reversed(queued), succeeded, failed]


def test_the_list_has_the_newest_job_first(shop: Shop, every: list[str]) -> None:
    done = shop.run("jobs", "list")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["job", "flow", "state", "submitted", "took"]
    assert [(row[0], row[1], row[2]) for row in rows[1:]] == list(
        zip(
            every,
            ["shop.order"] * 3 + ["shop.price", "shop.order"],
            ["queued"] * 3 + ["succeeded", "failed"],
            strict=True,
        )
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--state", "failed"], [4]),
        (["--state", "failed", "--state", "succeeded"], [3, 4]),
        (["--flow", "shop.price"], [3]),
        (["--flow", "price"], [3]),
        (["--reason", "error"], [4]),
        (["--since", "1h"], [0, 1, 2, 3, 4]),
        (["--before", "1h"], []),
        (["--since", "2000-01-01", "--before", "2000-01-02T08:30"], []),
        (["--limit", "2"], [0, 1]),
        (["--dead"], [4]),
    ],
)
def test_jobs_are_listed_by_state_flow_reason_and_age(
    shop: Shop, every: list[str], options: list[str], expected: list[int]
) -> None:
    found = shop.told("jobs", "list", *options)
    assert [job["job_id"] for job in found] == [every[index] for index in expected]


def test_a_list_goes_on_behind_the_last_job_of_a_page(shop: Shop, every: list[str]) -> None:
    first = shop.run("jobs", "list", "--limit", "2")
    assert first.stderr == f"… there are more: --after-id {every[1]}\n"
    second = shop.run("jobs", "list", "--limit", "3", "--after-id", every[1])
    assert [line.split()[0] for line in second.stdout.splitlines()[1:]] == every[2:]
    assert second.stderr == ""


def test_dead_jobs_are_listed_with_where_and_why_they_failed(shop: Shop, failed: str) -> None:
    (row,) = shop.run("jobs", "list", "--dead").stdout.splitlines()[1:]
    assert re.fullmatch(rf"{failed}   shop\.order   \S+ \S+   error    total   RuntimeError: the till is closed", row)


def test_a_job_is_shown_with_its_nodes(shop: Shop, failed: str, succeeded: str, queued: list[str]) -> None:
    assert len({failed[:18], succeeded[:18], queued[0][:18]}) == 3
    text = shop.run("jobs", "show", failed[:18]).stdout
    head, facts, nodes = text.split("\n\n")
    assert head == f"{failed}  shop.order"
    assert re.search(r"^state +failed$", facts, re.MULTILINE)
    assert re.search(r"^nodes +3 of 3 ended$", facts, re.MULTILINE)
    assert re.search(r'^inputs +{"items": \["apple", "pear"\]}$', facts, re.MULTILINE)
    assert re.search(r"^error +RuntimeError: the till is closed  total  shop\.py:\d+$", facts, re.MULTILINE)
    rows = [line.split()[:3] for line in nodes.splitlines()[1:]]
    assert sorted(rows) == [["price", "succeeded", "1"], ["price-2", "succeeded", "1"], ["total", "failed", "1"]]


async def test_a_job_that_a_task_submitted_is_shown_with_that_task(tmp_path: Path) -> None:
    shop, job = Shop(tmp_path), make_job(parent="01a1fc8a-2fcc-7389-a537-5c789c361e78.total")
    orphan = shop.made("price", "-i", "item=apple")
    ledger = SqlLedger(f"sqlite:///{tmp_path}/.millstream/ledger.db", SystemClock())
    await submit(ledger, job, None)
    await ledger.close()
    assert re.search(rf"^submitted by +{job.parent}$", shop.run("jobs", "show", job.id).stdout, re.MULTILINE)
    assert shop.told("jobs", "show", job.id)["parent"] == job.parent
    assert {told["job_id"]: told["parent"] for told in shop.told("jobs", "list")} == {job.id: job.parent, orphan: None}
    assert "submitted by" not in shop.run("jobs", "show", orphan).stdout


async def test_a_job_is_found_by_the_ids_of_its_tasks(tmp_path: Path) -> None:
    shop, job = Shop(tmp_path), make_job()
    shop.made("price", "-i", "item=apple")
    ledger = SqlLedger(f"sqlite:///{tmp_path}/.millstream/ledger.db", SystemClock())
    await submit(ledger, job, None, Mine="a")
    await ledger.close()

    for task_id in ("Mine", f"{job.id}.a"):
        assert shop.told("jobs", "show", task_id)["job_id"] == job.id


def test_a_job_is_told_with_its_result_and_who_took_it_up(shop: Shop, succeeded: str) -> None:
    told = shop.told("jobs", "show", succeeded)
    assert (told["state"], told["result"], told["inputs"]) == ("succeeded", 1.5, {"item": "apple"})
    assert [(node["node"], node["state"]) for node in told["nodes"]] == [("price", "succeeded")]
    assert [attempt["attempt"] for attempt in told["attempts"]] == [1]
    assert told["created_at"] <= told["started_at"] <= told["ended_at"]


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("00000000", "there is no job whose id begins with 00000000"),
        ("0", "'0' is no task's id, nor the beginning of a job's: its first 4 digits or more"),
        ("00000000-0000-7000-8000-000000000000", "there is no job '00000000-0000-7000-8000-000000000000'"),
    ],
)
def test_a_job_that_is_not_there_is_one_line(shop: Shop, every: list[str], job: str, said: str) -> None:
    assert every
    for command in ("show", "events", "logs", "approve"):
        done = shop.run("jobs", command, job)
        assert (done.returncode, done.stderr) == (2, f"millstream: {said}\n")


def test_the_beginning_of_several_ids_names_none(shop: Shop, every: list[str]) -> None:
    done = shop.run("jobs", "show", every[0][:4])
    assert (done.returncode, done.stderr) == (
        2,
        f"millstream: several jobs' ids begin with {every[0][:4]}; write more of it\n",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "'yesterday' is no time; write how long ago, as 30m, 2h or 7d, or a date"),
        (["--reason", "bad"], "--reason bad: give one of error, timeout"),
        (["--dead", "--state", "failed"], "--dead stands for --state failed"),
        (["--flow", "prize"], "no job has the flow 'prize'"),
    ],
)
def test_a_wrong_choice_is_one_line(shop: Shop, every: list[str], options: list[str], said: str) -> None:
    assert every
    done = shop.run("jobs", "list", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_events_are_told_from_a_cursor_on(shop: Shop, succeeded: str) -> None:
    events = shop.lines("jobs", "events", succeeded)
    assert [event["type"] for event in events] == ["planned", "started", "node_succeeded", "ended"]
    assert [event["cursor"] for event in events] == ["1-0", "2-0", "3-0", "4-0"]
    assert shop.lines("jobs", "events", succeeded, "--after", "3-0") == events[3:]
    assert shop.run("jobs", "events", succeeded, "--after", "3").returncode == 2


def test_the_log_tells_the_story_for_people(shop: Shop, failed: str) -> None:
    lines = shop.run("jobs", "logs", failed).stdout.splitlines()
    assert lines[0].endswith("started")
    assert re.search(r"total +failed: RuntimeError: the till is closed  shop\.py:\d+$", lines[-2])
    assert lines[-1].endswith("failed")


def test_events_are_followed_to_the_end_from_another_process(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with started("run", "shop.py:parcel", "-i", "until=sent", cwd=tmp_path) as running:
        wait_until((tmp_path / "packing").exists, "it runs")
        (job,) = shop.told("jobs", "list")
        assert job["state"] == "running"
        with started("jobs", "events", job["job_id"], "--follow", "--json", cwd=tmp_path) as follower:
            assert follower.stdout
            first = [json.loads(follower.stdout.readline())["type"] for _ in range(2)]
            (tmp_path / "sent").touch()
            rest = [json.loads(line)["type"] for line in follower.stdout]
            assert (first, rest) == (["planned", "started"], ["node_succeeded", "ended"])
            assert follower.wait() == 0
        assert running.wait() == 0


@pytest.mark.parametrize(
    "command", ["list", "show abcd", "events abcd", "logs abcd", "cancel abcd", "retry --dead --yes", "purge abcd"]
)
@pytest.mark.parametrize("is_foreign", [False, True])
def test_looking_makes_no_ledger(command: str, *, is_foreign: bool, tmp_path: Path) -> None:
    place = tmp_path / "else.db"
    if is_foreign:
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("CREATE TABLE theirs (id INTEGER)")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    json_too = [] if command.startswith("logs") else ["--json"]
    variables = {"MILLSTREAM_DATABASE_URL": f"sqlite:///{place}"}
    done = millstream("jobs", *command.split(), *json_too, cwd=tmp_path, **variables)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"millstream: there is no ledger yet: {place}\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_ledger_is_looked_into_whatever_the_durability_of_new_jobs_is(shop: Shop, every: list[str]) -> None:
    done = shop.run("jobs", "list", "--json", MILLSTREAM_DURABILITY="off")
    assert [job["job_id"] for job in json.loads(done.stdout)] == every


def test_a_ledger_without_jobs_has_an_empty_list(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.run("ledger", "upgrade").returncode == 0
    assert shop.told("jobs", "list") == []
    assert shop.run("jobs", "list").stdout.split() == ["job", "flow", "state", "submitted", "took"]


def test_what_a_job_waits_for_is_shown(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with started("run", "shop.py:two", cwd=tmp_path), started("run", "shop.py:tomorrow", cwd=tmp_path):
        wait_until(lambda: len(shop.listed("--state", "waiting")) == 2, "both wait")
        sleeping, asking = sorted(shop.told("jobs", "list"), key=lambda job: job["reason"], reverse=True)
        text = shop.run("jobs", "show", asking["job_id"]).stdout
        assert re.search(r"^state +waiting \(approval\)$", text, re.MULTILINE)
        assert re.search(rf"this an approval: this\?  \(millstream jobs approve {asking['job_id']} this\)", text)
        assert re.search(r"that an approval: that\?", text)
        text = shop.run("jobs", "show", sleeping["job_id"]).stdout
        assert re.search(r"^state +waiting \(timer\)$", text, re.MULTILINE)
        assert re.search(r"^waits for +\S+ until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", text, re.MULTILINE)
