"""`millstream jobs cancel`, `retry` and `purge` say of each job what became of it, whoever executes it."""

import signal
from pathlib import Path

import pytest

from tests.integration.cli_program import millstream, on_terminal, started, wait_until
from tests.integration.ledger_of_shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_job_that_nobody_executes_is_cancelled_at_once(shop: Shop) -> None:
    (job,) = shop.submitted(1)
    done = shop.run("jobs", "cancel", job)
    assert (done.returncode, done.stdout) == (0, f"{job}  cancelled\n")
    assert shop.state(job) == "cancelled"


def test_a_job_that_runs_elsewhere_is_cancelled_there(shop: Shop) -> None:
    with started("run", "shop.py:parcel", "-i", "until=never", cwd=shop.directory) as running:
        wait_until((shop.directory / "packing").exists, "it runs")
        (job,) = shop.told("jobs", "list")
        done = shop.run("jobs", "cancel", job["job_id"])
        assert (done.returncode, done.stdout) == (0, f"{job['job_id']}  cancelled\n")
        assert running.stderr
        assert "parcel cancelled" in running.stderr.read()
        assert running.wait() == 1


def test_a_cancel_that_comes_too_late_says_how_the_job_ended(shop: Shop) -> None:
    ended = shop.made("price", "-i", "item=pear")
    (queued,) = shop.submitted(1)
    done = shop.run("jobs", "cancel", ended, queued)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f"{ended}  had ended before: it succeeded", f"{queued}  cancelled"]
    assert shop.run("jobs", "cancel", queued).returncode == 0


def test_who_looks_after_the_ledger_needs_no_broker(shop: Shop) -> None:
    (job,) = shop.submitted(1)
    on_workers = {"MILLSTREAM_CELERY_ENABLED": "true"}  # and the broker is named in the app's code
    for command in (
        ["jobs", "list"],
        ["jobs", "show", job],
        ["jobs", "cancel", job],
        ["jobs", "retry", job],
        ["ledger", "check"],
        ["flows", "list", "shop.py"],
    ):
        done = millstream(*command, cwd=shop.directory, **on_workers)
        assert (done.returncode, done.stderr) == (0, ""), command
    refused = millstream("run", "shop.py:price", "-i", "item=pear", cwd=shop.directory, **on_workers)
    assert refused.returncode == 78
    assert "needs a broker; set broker_url or redis_url" in refused.stderr


@pytest.mark.parametrize("command", ["cancel", "retry", "purge"])
def test_a_job_that_is_not_there_is_wrong_usage_and_the_others_are_seen_to(command: str, shop: Shop) -> None:
    (queued,) = shop.submitted(1)
    unknown = "00000000-0000-7000-8000-000000000000"
    done = shop.run("jobs", command, unknown, "00000001", queued)
    assert done.returncode == 2
    told = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert told[unknown] == f"there is no job '{unknown}'"
    assert told["00000001"] == "there is no job whose id begins with 00000001"
    assert queued in told


def test_a_retried_job_takes_over_what_succeeded(shop: Shop) -> None:
    failed = shop.made("order")
    assert sorted(shop.effects()) == ["price apple", "price pear", "total"]
    (shop.directory / "open").touch()
    (told,) = shop.lines("jobs", "retry", failed)
    assert (told["job_id"], told["is_done"]) == (failed, True)
    with started("run", "shop.py:parcel", "-i", "until=done", cwd=shop.directory, MILLSTREAM_IMPORTS="shop"):
        wait_until(lambda: shop.state(told["new_job_id"]) == "succeeded", "the new job ends")
    assert shop.told("jobs", "show", told["new_job_id"])["result"] == 3.5
    assert sorted(shop.effects()) == ["price apple", "price pear", "total", "total"]
    assert shop.state(failed) == "failed"


def test_a_job_is_retried_from_its_start_on_request(shop: Shop) -> None:
    failed = shop.made("order")
    (told,) = shop.lines("jobs", "retry", failed, "--from-start")
    with started("run", "shop.py:parcel", "-i", "until=done", cwd=shop.directory, MILLSTREAM_IMPORTS="shop"):
        wait_until(lambda: shop.state(told["new_job_id"]) == "failed", "the new job ends")
    assert sorted(shop.effects()) == sorted(["price apple", "price pear", "total"] * 2)


def test_a_second_retry_of_a_choice_makes_no_second_job(shop: Shop) -> None:
    by_hand, chosen = shop.made("order"), shop.made("order")
    (told,) = shop.lines("jobs", "retry", by_hand)
    choice = ("jobs", "retry", "--dead", "--yes")
    first = {line["job_id"]: line["new_job_id"] for line in shop.lines(*choice)}
    assert first[by_hand] == told["new_job_id"]
    assert shop.told("jobs", "show", first[chosen])["repeats"] == chosen
    assert f"repeats     {chosen}" in shop.run("jobs", "show", first[chosen]).stdout
    again = shop.run(*choice)
    assert (again.returncode, again.stdout.splitlines()) == (
        0,
        [f"{job}  was retried before, as {first[job]}; name it to retry it once more" for job in (chosen, by_hand)],
    )
    assert len(shop.told("jobs", "list")) == 4


def test_a_job_that_succeeded_is_run_again_only_from_its_start(shop: Shop) -> None:
    ended = shop.made("price", "-i", "item=apple")
    done = shop.run("jobs", "retry", ended)
    assert (done.returncode, done.stdout) == (
        1,
        f"{ended}  has succeeded, so nothing is left to do; --from-start runs it again\n",
    )
    assert f"{ended}  runs again as " in shop.run("jobs", "retry", ended, "--from-start").stdout


def test_a_job_that_has_not_ended_is_not_retried(shop: Shop) -> None:
    (job,) = shop.submitted(1)
    done = shop.run("jobs", "retry", job)
    assert (done.returncode, done.stdout) == (1, f"{job}  has not ended: it is queued; cancel it first\n")


def test_purged_jobs_are_forgotten(shop: Shop) -> None:
    ended, (queued,) = shop.made("price", "-i", "item=pear"), shop.submitted(1)
    done = shop.run("jobs", "purge", queued, ended)
    assert done.returncode == 1
    assert sorted(done.stdout.splitlines()) == sorted(
        [f"{ended}  purged", f"{queued}  kept: it is queued; cancel it first"]
    )
    assert [job["job_id"] for job in shop.told("jobs", "list")] == [queued]
    assert shop.run("jobs", "show", ended).returncode == 2


def test_many_jobs_are_changed_only_by_who_says_yes(shop: Shop) -> None:
    jobs = shop.submitted(3)
    asked = shop.run("jobs", "cancel", "--state", "queued")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert asked.stderr == "millstream: this would cancel 3 jobs; say --yes if that is meant\n"
    done = shop.run("jobs", "cancel", "--state", "queued", "--yes")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"{job}  cancelled" for job in reversed(jobs)])
    nothing = shop.run("jobs", "cancel", "--state", "queued", "--yes")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "0 cancelled\n")


@pytest.mark.parametrize(("answer", "code", "state"), [("y", 0, "cancelled"), ("n", 1, "queued")])
def test_on_a_terminal_many_jobs_are_changed_after_a_question(shop: Shop, answer: str, code: int, state: str) -> None:
    jobs = shop.submitted(2)
    with on_terminal("jobs", "cancel", "--flow", "shop.order", cwd=shop.directory) as terminal:
        terminal.wait_for(r"cancel 2 jobs\? \[y/N\]")
        terminal.type(f"{answer}\n")
        assert terminal.wait() == code
    assert {shop.state(job) for job in jobs} == {state}


def test_ctrl_c_at_the_question_changes_nothing(shop: Shop) -> None:
    (job,) = shop.submitted(1)
    with on_terminal("jobs", "cancel", "--state", "queued", cwd=shop.directory) as terminal:
        terminal.wait_for_question(r"cancel 1 job\?")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert shop.state(job) == "queued"


def test_a_few_thousand_jobs_are_changed_in_bulk(shop: Shop) -> None:
    jobs = shop.submitted(3000)
    told = shop.lines("jobs", "cancel", "--flow", "shop.order", "--yes")
    assert [line["job_id"] for line in told] == jobs[::-1]
    assert {line["state"] for line in told} == {"cancelled"}
    purged = shop.run("jobs", "purge", "--state", "cancelled", "--yes")
    assert len(purged.stdout.splitlines()) == 3000
    assert shop.told("jobs", "list") == []


@pytest.mark.parametrize("command", ["cancel", "retry", "purge"])
def test_jobs_are_named_or_chosen_but_not_both(shop: Shop, command: str) -> None:
    (job,) = shop.submitted(1)
    for arguments in ([], [job, "--state", "failed"]):
        done = shop.run("jobs", command, *arguments)
        assert done.returncode == 2
        assert done.stderr == f"millstream: name the jobs to {command}, or choose them by --state, --flow or the like\n"


def test_a_choice_that_a_command_is_not_for_is_refused(shop: Shop) -> None:
    done = shop.run("jobs", "purge", "--state", "queued", "--yes")
    assert done.stderr == ("millstream: this is for jobs that are succeeded, failed or cancelled, not queued\n")
