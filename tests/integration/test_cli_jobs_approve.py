"""`millstream jobs approve` answers approvals, and decides about nodes of which nobody knows whether they have run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli_program import started, wait_until
from tests.integration.ledger_of_shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@contextmanager
def waiting(shop: Shop, name: str) -> Iterator[str]:
    """Have a flow of the shop wait, and give its job's id."""
    with started("run", f"shop.py:{name}", cwd=shop.directory):
        wait_until(lambda: shop.listed("--state", "waiting"), "it waits")
        yield shop.told("jobs", "list")[0]["job_id"]


@pytest.mark.parametrize(
    ("options", "result"), [([], "sent: True"), (["--answer", '{"by": "Ada"}'], "sent: {'by': 'Ada'}")]
)
def test_the_only_approval_of_a_job_is_answered(shop: Shop, options: list[str], result: str) -> None:
    with waiting(shop, "delivery") as job:
        done = shop.run("jobs", "approve", job, *options)
        assert (done.returncode, done.stdout) == (0, f"{job}  approval  is answered\n")
        wait_until(lambda: shop.state(job) == "succeeded", "it goes on")
    assert shop.told("jobs", "show", job)["result"] == result


def test_of_several_approvals_one_is_named(shop: Shop) -> None:
    with waiting(shop, "two") as job:
        unclear = shop.run("jobs", "approve", job)
        assert (unclear.returncode, unclear.stderr) == (
            2,
            f"millstream: job {job} waits in several places; name one: this, that\n",
        )
        assert shop.run("jobs", "approve", job, "that").returncode == 0
        again = shop.run("jobs", "approve", job, "that")
        assert again.stderr == f"millstream: nothing waits at node that; job {job} waits at this\n"
        assert shop.run("jobs", "approve", job).returncode == 0
        wait_until(lambda: shop.state(job) == "succeeded", "it goes on")


def test_what_does_not_wait_is_not_answered(shop: Shop) -> None:
    ended, (queued,) = shop.made("price", "-i", "item=pear"), shop.submitted(1)
    assert shop.run("jobs", "approve", ended).stderr == (
        f"millstream: job {ended} waits for nothing: it has ended as succeeded\n"
    )
    assert shop.run("jobs", "approve", queued).stderr == (
        f"millstream: job {queued} waits for no answer; it is queued\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--answer", "yes"], "--answer yes is not JSON"),
        (["--repeat"], "waits for an approval: answer it with --answer JSON"),
        (["--repeat", "--fail"], "give only one of --answer, --repeat and --fail"),
    ],
)
def test_a_wrong_answer_is_one_line(shop: Shop, options: list[str], said: str) -> None:
    with waiting(shop, "delivery") as job:
        done = shop.run("jobs", "approve", job, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
        assert shop.state(job) == "waiting"


@contextmanager
def undecided(shop: Shop) -> Iterator[str]:
    """Have the process die that runs a node which must run only once, and give the id of the job."""
    (shop.directory / "dies").touch()
    with started("run", "shop.py:payment", cwd=shop.directory) as victim:
        assert victim.wait() == 9
    (shop.directory / "dies").unlink()
    with started("run", "shop.py:parcel", "-i", "until=never", cwd=shop.directory, MILLSTREAM_IMPORTS="shop"):
        wait_until(lambda: shop.listed("--reason", "decision"), "a decision is due")
        yield shop.told("jobs", "list", "--reason", "decision")[0]["job_id"]


def test_a_decision_has_to_be_said(shop: Shop) -> None:
    with undecided(shop) as job:
        assert "a decision: it must run only once" in shop.run("jobs", "show", job).stdout
        done = shop.run("jobs", "approve", job)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "node pay must run only once" in done.stderr
        assert "--repeat" in done.stderr
    assert shop.effects() == ["pay"]


@pytest.mark.parametrize(
    ("options", "state", "result", "effects", "said"),
    [
        (["--repeat"], "succeeded", "sent: paid", ["pay", "pay"], "it is run again"),
        (["--answer", '"it was"'], "succeeded", "sent: it was", ["pay"], 'it has run, with the result "it was"'),
        (["--fail"], "failed", None, ["pay"], "it counts as failed"),
    ],
)
def test_a_decision_is_carried_out(
    shop: Shop, options: list[str], state: str, result: str | None, effects: list[str], said: str
) -> None:
    with undecided(shop) as job:
        assert shop.run("jobs", "approve", job, *options).returncode == 0
        wait_until(lambda: shop.state(job) == state, "it goes on")
    assert shop.told("jobs", "show", job)["result"] == result
    assert f"was decided: {said}\n" in shop.run("jobs", "logs", job).stdout
    assert shop.effects() == effects
