"""`millstream ledger` looks after the ledger that the settings name, and says what it did."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from textwrap import dedent

import pytest

from millstream.ledger import migrations
from millstream.ledger.database import database, transaction
from tests.integration.cli_program import millstream

FLOWS = """
    from millstream import flow, task

    @task
    def load(size: int) -> str:
        return "x" * size

    @flow
    def report(size: int = 20_000):
        return load(size)
"""
PLACE = ".millstream/ledger.db"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a ledger, in which one job has ended."""
    directory = tmp_path_factory.mktemp("filled")
    (directory / "shop.py").write_text(dedent(FLOWS), encoding="utf-8")
    assert millstream("run", "shop.py:report", cwd=directory).returncode == 0
    return directory


@pytest.fixture
def work(filled: Path, tmp_path: Path) -> Path:
    """Return a directory of the test's own that is like it."""
    return shutil.copytree(filled, tmp_path, dirs_exist_ok=True)


def break_ledger(work: Path) -> str:
    """Take an event away, and return its job."""
    with sqlite3.connect(work / PLACE) as connection:
        (job,) = connection.execute("SELECT id FROM millstream_job").fetchone()
        connection.execute("DELETE FROM millstream_event WHERE seq = 1")
    connection.close()
    return str(job)


def test_the_default_ledger_keeps_itself_out_of_version_control(work: Path) -> None:
    assert (work / ".millstream" / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert (work / PLACE).stat().st_mode & 0o777 == 0o600


def make_first_revision(path: Path) -> None:
    """Make a ledger as the first version did."""
    connection = database(f"sqlite:///{path}").connect()
    with transaction(connection):
        migrations.upgrade(connection.raw, "0001")
    connection.close()


# -------------------------------------------------------------------------------------------------------------- check
def test_a_check_tells_what_there_is_and_that_nothing_is_wrong(work: Path) -> None:
    done = millstream("ledger", "check", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r"[\d.]+ kB\)", "N kB)", done.stdout) == dedent(
        f"""\
        ledger         sqlite:///{work / PLACE} (revision 0006, N kB)
        jobs           1 succeeded
        events         4
        large values   1 (N kB)

        ✓ nothing is wrong
        """
    )


def test_a_problem_is_told_with_its_job_and_the_exit_code(work: Path) -> None:
    job = break_ledger(work)
    done = millstream("ledger", "check", cwd=work)
    assert done.returncode == 1
    assert f"✗ job {job}: its events are 3, numbered 2 to 4, and its next one would be 5\n" in done.stdout
    assert "nothing is wrong" not in done.stdout


def test_a_check_for_programs(work: Path) -> None:
    job = break_ledger(work)
    done = millstream("ledger", "check", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["ledger"] == f"sqlite:///{work / PLACE}"
    assert (told["revision"], told["jobs"], told["events"], told["large_values"]) == ("0006", {"succeeded": 1}, 3, 1)
    assert [problem["job"] for problem in told["problems"]] == [job]


# ----------------------------------------------------------------------------------------------------- vacuum, upgrade
def test_a_vacuum_says_what_it_removed(work: Path) -> None:
    done = millstream("ledger", "vacuum", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"removed 0 jobs, 0 graphs, 0 large values · the database had [\d.]+ [kM]B, now [\d.]+ [kM]B\n", done.stdout
    )


def test_a_vacuum_goes_by_the_setting(work: Path) -> None:
    done = millstream("ledger", "vacuum", "--json", cwd=work, MILLSTREAM_RETENTION_DAYS="0.0000001")
    told = json.loads(done.stdout)
    assert (told["jobs"], told["graphs"], told["large_values"], told["is_compacted"]) == (1, 1, 0, True)
    assert json.loads(millstream("ledger", "check", "--json", cwd=work).stdout)["jobs"] == {}


def test_zero_days_keep_everything(work: Path) -> None:
    assert (
        json.loads(millstream("ledger", "vacuum", "--json", cwd=work, MILLSTREAM_RETENTION_DAYS="0").stdout)["jobs"]
        == 0
    )


def test_an_upgrade_says_from_where_to_where(work: Path) -> None:
    done = millstream("ledger", "upgrade", cwd=work)
    assert (done.returncode, done.stdout) == (0, "nothing to do: the ledger has revision 0006\n")
    done = millstream("ledger", "upgrade", cwd=work, MILLSTREAM_DATABASE_URL="sqlite:///new.db")
    assert (done.returncode, done.stdout) == (0, "made the ledger, with revision 0006\n")
    make_first_revision(work / "old.db")
    told = json.loads(
        millstream("ledger", "upgrade", "--json", cwd=work, MILLSTREAM_DATABASE_URL="sqlite:///old.db").stdout
    )
    assert (told["before"], told["after"]) == ("0001", "0006")


# ------------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize("command", ["check", "vacuum"])
def test_without_a_ledger_the_program_says_so_in_one_line(command: str, tmp_path: Path) -> None:
    done = millstream("ledger", command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"millstream: there is no ledger yet: {tmp_path / PLACE}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["check", "vacuum", "upgrade"])
def test_a_newer_ledger_is_refused_in_one_line(command: str, work: Path) -> None:
    with sqlite3.connect(work / PLACE) as connection:
        connection.execute("UPDATE millstream_revision SET version_num = '9999'")
    connection.close()
    done = millstream("ledger", command, cwd=work)
    assert (done.returncode, done.stdout) == (78, "")
    assert len(done.stderr.splitlines()) == 1
    assert "9999" in done.stderr


def test_a_server_that_is_not_there_is_told_in_one_line_without_the_password(tmp_path: Path) -> None:
    url = "postgresql://me:s3cr3t@127.0.0.1:1/jobs"
    done = millstream("ledger", "check", cwd=tmp_path, MILLSTREAM_DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == 1
    assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize("command", ["ledger check", "jobs list", "run shop.py:report"])
def test_a_missing_driver_is_told_with_what_to_install(command: str, work: Path) -> None:
    (work / "psycopg.py").write_text("raise ModuleNotFoundError(name='psycopg')", encoding="utf-8")
    url = "postgresql://me@127.0.0.1:1/jobs"
    done = millstream(*command.split(), cwd=work, MILLSTREAM_DATABASE_URL=url, PYTHONPATH=str(work))
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == ("millstream: a ledger on PostgreSQL needs the extra: pip install 'millstream[postgres]'\n")


def test_a_ledger_on_postgresql_is_looked_after_alike(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "shop.py").write_text(dedent(FLOWS), encoding="utf-8")
    assert millstream("run", "shop.py:report", cwd=tmp_path, MILLSTREAM_DATABASE_URL=postgres_url).returncode == 0
    checked = millstream("ledger", "check", "--json", cwd=tmp_path, MILLSTREAM_DATABASE_URL=postgres_url)
    told = json.loads(checked.stdout)
    assert (checked.returncode, told["jobs"], told["large_values"]) == (0, {"succeeded": 1}, 1)
    assert told["ledger"].startswith("postgresql://***@127.0.0.1:")
    vacuumed = millstream("ledger", "vacuum", "--json", cwd=tmp_path, MILLSTREAM_DATABASE_URL=postgres_url)
    assert json.loads(vacuumed.stdout)["is_compacted"]
