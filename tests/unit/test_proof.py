"""Proof of life: who is seen to be dead, by whom, and who never is."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from millstream.ledger.proof import ProofOfLife, directory_beside, directory_for

_HOLD = """
import os, sys
from pathlib import Path
from millstream.ledger.proof import ProofOfLife
proof = ProofOfLife(Path(sys.argv[1]))
print(proof.begin("other"), flush=True)
if sys.argv[2] == "fork" and os.fork() == 0:
    os.close(1)
    sys.stdin.readline()
    os._exit(0)
sys.stdin.readline()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db.members"


def holder(directory: Path, how: str = "alone") -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(directory), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_one_that_lives_is_not_dead_and_one_that_was_killed_is_at_once(directory: Path) -> None:
    process, place = holder(directory)
    proof = ProofOfLife(directory)
    assert place == proof.place
    assert not proof.is_dead("other", place)
    kill(process)
    assert proof.is_dead("other", place)
    assert proof.is_dead("other", place), "a look changes nothing"


def test_a_child_that_outlives_its_parent_does_not_hide_its_death(directory: Path) -> None:
    process, place = holder(directory, "fork")
    proof = ProofOfLife(directory)
    assert not proof.is_dead("other", place)
    process.kill()
    process.wait()
    while not proof.is_dead("other", place):  # until the child has let go of the lock that it was born with
        time.sleep(0.001)
    process.communicate()


def test_two_who_look_at_once_both_see_it(directory: Path) -> None:
    process, place = holder(directory)
    kill(process)
    with (directory / "other.lock").open() as seen:
        fcntl.flock(seen, fcntl.LOCK_SH)
        assert ProofOfLife(directory).is_dead("other", place)


def test_nobody_proves_himself_dead(directory: Path) -> None:
    proof = ProofOfLife(directory)
    place = proof.begin("me")
    assert not proof.is_dead("me", place)
    assert not ProofOfLife(directory).is_dead("me", place), "nor another app of this process"
    proof.end("me")


def test_another_machine_proves_nothing(directory: Path) -> None:
    process, place = holder(directory)
    kill(process)
    proof = ProofOfLife(directory)
    assert not proof.is_dead("other", f"another/{place.partition('/')[2]}")
    assert not proof.is_dead("other", f"{place.partition('/')[0]}/before-the-reboot")
    assert not proof.is_dead("other", None)


def test_a_file_that_is_gone_proves_nothing(directory: Path) -> None:
    process, place = holder(directory)
    (directory / "other.lock").unlink()
    assert not ProofOfLife(directory).is_dead("other", place)
    kill(process)


def test_an_end_leaves_no_file_and_may_be_said_twice(directory: Path) -> None:
    proof = ProofOfLife(directory)
    proof.end("me")
    proof.begin("me")
    proof.end("me")
    proof.end("me")
    assert list(directory.iterdir()) == []


def test_a_death_is_cleared_away_by_who_has_recorded_it(directory: Path) -> None:
    process, place = holder(directory)
    kill(process)
    proof = ProofOfLife(directory)
    assert proof.is_dead("other", place)
    proof.forget("other")
    proof.forget("other")
    assert list(directory.iterdir()) == []


def test_switched_off_or_where_nobody_may_write_the_lease_decides(directory: Path, tmp_path: Path) -> None:
    off = ProofOfLife(directory, is_on=False)
    assert (off.place, off.begin("me")) == (None, None)
    assert not directory.exists()
    assert ProofOfLife(tmp_path / "no" / "such").begin("me") is None
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    assert ProofOfLife(directory).begin("me") is None, "others could put their files in the place of ours"


def test_a_ledger_on_a_server_has_a_directory_per_user_and_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/mine")
    one = directory_for("db.example.org:5432/shop")
    assert one == directory_for("db.example.org:5432/shop") != directory_for("db.example.org:5432/other")
    assert one.parent == Path("/run/mine")
    assert one.name.startswith(f"millstream-{os.getuid()}-")
    assert directory_beside(Path("a/b.db")) == Path("a/b.db.members")
