"""What protects the record is not there in vain: with each part taken out of a copy of the package, a test fails."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """A change of the product that must be noticed.

    Attributes:
        what: What is taken out.
        file: Where, below `src/millstream/`.
        old: The code, which stands there once.
        new: What stands there instead.
        tests: The tests of which one must fail.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LEDGERS = "tests/contract/test_sql_ledger.py"
REDIS_LOG, REDIS_FAULTS = "tests/contract/test_redis_event_log.py", "tests/integration/test_redis_log_faults.py"
MUTANTS = [
    Mutant(
        "the check of holder and attempt",
        "ledger/batch.py",
        " or (part.attempt, part.holder) != (claim.attempt, claim.holder):",
        ":",
        (LEDGERS, "-k", "silent_member and Sqlite"),
    ),
    Mutant(
        "the lock of the job's row",
        "ledger/batch.py",
        'queries.among(connection, "locked", known)',
        "pass",
        (LEDGERS, "-k", "cancel_and_a_finish and Postgres"),
    ),
    Mutant(
        "the replay of a failed batch under savepoints",
        "ledger/writer.py",
        "elif write == self._one_transaction and not isinstance(meaning, _OF_ALL):",
        "elif not items:",
        ("tests/integration/test_ledger_faults.py", "-k", "one_bad_record and sqlite"),
    ),
    Mutant(
        "the claimer's proof of membership",
        "ledger/claims.py",
        'if not self._queries.among(connection, "alive", [holder]):',
        "if not holder:",
        (LEDGERS, "-k", "no_member and Sqlite"),
    ),
    Mutant(
        "the check that an alias is free",
        "ledger/batch.py",
        "owner = self._aliases.get(name)",
        "owner = None",
        (LEDGERS, "-k", "alias_of_another_job and Sqlite"),
    ),
    Mutant(
        "the recall of what a task was replaced by",
        "engine/runner.py",
        "known = run.past.drawn(frame.name(index)) if run.past is not None else None",
        "known = None",
        ("tests/contract/test_anyio_backend.py", "-k", "does_not_run_again_when_its_job_goes_on_later and OnSqlite"),
    ),
    Mutant(
        "the wait for the record before successors start",
        "engine/run.py",
        'is_open=job.durability != "full"',
        "is_open=True",
        ("tests/chaos/test_order.py",),
    ),
]

OF_REDIS = [
    Mutant(
        "the append script's check that an event is not there already",
        "events/redis/append.lua",
        "if seq == head + 1 then",
        "seq = head + 1 if true then",
        (REDIS_LOG, "-k", "what_is_there_already"),
    ),
    Mutant(
        "the append script's check for holes",
        "events/redis/append.lua",
        "first > head + 1 or ",
        "",
        (REDIS_LOG, "-k", "hole"),
    ),
    Mutant(
        "the append script's check of the attempt",
        "events/redis/append.lua",
        "if is_current and not is_again then",
        "if not is_again then",
        (REDIS_FAULTS, "-k", "zombie"),
    ),
]


@pytest.mark.timeout(900)  # a whole run of tests, in which one that hangs has its own time
@pytest.mark.parametrize(
    "mutant",
    [*MUTANTS, *(pytest.param(mutant, marks=pytest.mark.matrix) for mutant in OF_REDIS)],
    ids=lambda mutant: mutant.what,
)
def test_a_product_without_it_fails(mutant: Mutant, tmp_path: Path) -> None:
    package = shutil.copytree(
        ROOT / "src" / "millstream", tmp_path / "millstream", ignore=shutil.ignore_patterns("__pycache__")
    )
    source = (package / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1, f"{mutant.file} has changed: say anew how to take out {mutant.what}"
    (package / mutant.file).write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, f"nobody missed {mutant.what}:\n{done.stdout[-3000:]}"
