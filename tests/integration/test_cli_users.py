"""`millstream users` and `millstream api-keys` work on the ledger itself, and write secrets nowhere."""

import asyncio
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from millstream.cli import users
from millstream.cli.exits import WrongUseError
from millstream.clock import SystemClock
from millstream.ledger.accounts import Accounts
from millstream.ledger.sql import SqlLedger
from millstream.server.access.tokens import is_same, read_key
from millstream.server.passwords import Passwords
from millstream.testing.server_doings import make_session
from tests.integration.cli_program import PROGRAM, SECONDS, environment, millstream, on_terminal

T = TypeVar("T")


def typed(*arguments: str, cwd: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run the program with something on its standard input."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def ask(work: Path, question: Callable[[Accounts], Awaitable[T]]) -> T:
    async def look() -> T:
        ledger = SqlLedger(f"sqlite:///{work}/.millstream/ledger.db", SystemClock())
        try:
            return await question(ledger.accounts)
        finally:
            await ledger.close()

    return asyncio.run(look())


def is_password(work: Path, name: str, password: str) -> bool:
    user = ask(work, lambda accounts: accounts.user_named(name))
    assert user is not None
    return asyncio.run(Passwords().is_right(password, user.password))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two users: Ada, a superuser, and Bob."""
    directory = tmp_path_factory.mktemp("filled")
    for name, option in (("ada", "--superuser"), ("bob", "--no-superuser")):
        done = typed("users", "add", name, option, cwd=directory, text=f"{name}'s secret\n")
        assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def work(filled: Path, tmp_path: Path) -> Path:
    """Return a directory of the test's own that is like it."""
    return shutil.copytree(filled, tmp_path, dirs_exist_ok=True)


# -------------------------------------------------------------------------------------------------------------- users
def test_a_user_who_was_added_has_the_password_from_standard_input(work: Path) -> None:
    assert is_password(work, "ada", "ada's secret")
    assert not is_password(work, "ada", "bob's secret")
    user = ask(work, lambda accounts: accounts.user_named("ada"))
    assert user is not None
    assert user.is_superuser
    assert user.password is not None
    assert user.password.startswith("$argon2id$")


def test_users_are_listed_for_people_and_for_programs(work: Path) -> None:
    lines = millstream("users", "list", cwd=work).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["user", "ada", "bob"]
    assert "superuser" in lines[1]
    done = millstream("users", "list", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert [(user["name"], user["is_superuser"], user["is_active"]) for user in told] == [
        ("ada", True, True),
        ("bob", False, True),
    ]
    assert "argon2" not in done.stdout


def test_a_name_that_is_taken_is_refused(work: Path) -> None:
    done = typed("users", "add", "ada", cwd=work, text="another\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "millstream: the name 'ada' is taken already; choose another one\n"


def test_a_new_password_signs_the_user_out_everywhere(work: Path) -> None:
    user = ask(work, lambda accounts: accounts.user_named("ada"))
    assert user is not None
    session = make_session(user)
    ask(work, lambda accounts: accounts.begin([session]))
    done = typed("users", "password", "ada", cwd=work, text="a new one\n")
    assert (done.returncode, done.stdout) == (0, "ada has a new password, and is signed out everywhere\n")
    assert is_password(work, "ada", "a new one")
    assert ask(work, lambda accounts: accounts.session(session.digest)) is None


def test_a_password_is_typed_twice_on_a_terminal_and_never_shown(work: Path) -> None:
    with on_terminal("users", "password", "bob", cwd=work) as terminal:
        for word in ("Password", "Repeat"):
            terminal.wait_for(f"{word}[^\n]*: $")
            terminal.type("typed in secret\n")
        assert terminal.wait() == 0
    assert "typed in secret" not in terminal.raw
    assert is_password(work, "bob", "typed in secret")


@pytest.mark.parametrize(("text", "why"), [("", "no password"), ("\n", "empty"), ("x" * 1025 + "\n", "1,024")])
def test_a_password_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, why: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(WrongUseError, match=why):
        users._password()


def test_a_user_is_removed_when_that_is_meant(work: Path) -> None:
    done = millstream("users", "remove", "bob", cwd=work)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    done = millstream("users", "remove", "bob", "--yes", cwd=work)
    assert (done.returncode, done.stdout) == (0, "removed bob with all sessions, API keys, projects and flows\n")
    assert ask(work, lambda accounts: accounts.user_named("bob")) is None
    for unknown in (("users", "remove", "bob", "--yes"), ("api-keys", "list", "--user", "bob")):
        done = millstream(*unknown, cwd=work)
        assert (done.returncode, done.stderr) == (2, "millstream: there is no user 'bob'\n")


def test_looking_makes_no_ledger(tmp_path: Path) -> None:
    for command in ("users", "api-keys"):
        done = millstream(command, "list", cwd=tmp_path)
        assert done.returncode == 78
        assert done.stderr.startswith("millstream: there is no ledger yet")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------- API keys
def test_an_api_key_is_shown_once_and_stored_as_a_digest(work: Path) -> None:
    scopes = ("--scope", "run:write", "--scope", "jobs:read")
    done = millstream("api-keys", "create", "ci", "--user", "ada", *scopes, "--days", "30", cwd=work)
    assert done.returncode == 0
    read = read_key(done.stdout.strip())
    assert read is not None
    found = ask(work, lambda accounts: accounts.key(read[0]))
    assert found is not None
    key, user = found
    assert (user.name, key.name, key.scopes) == ("ada", "ci", ("run:write", "jobs:read"))
    assert is_same(read[1], key.digest)
    assert key.expires_at is not None
    assert key.expires_at - key.created_at == 30 * 86400
    dump = b"".join(path.read_bytes() for path in (work / ".millstream").rglob("*") if path.is_file())
    assert key.digest.encode() in dump
    for secret in (read[1], "ada's secret"):
        assert secret.encode() not in dump
        assert hashlib.sha256(secret.encode()).digest() not in dump


def test_api_keys_are_listed_and_removed(work: Path) -> None:
    made = [
        json.loads(millstream("api-keys", "create", name, "--user", user, "--json", cwd=work).stdout)
        for name, user in (("one", "ada"), ("two", "bob"))
    ]
    listed = millstream("api-keys", "list", cwd=work).stdout
    assert [made[0]["id"] in listed, made[1]["id"] in listed, "everything" in listed] == [True, True, True]
    (mine,) = json.loads(millstream("api-keys", "list", "--user", "bob", "--json", cwd=work).stdout)
    assert (mine["id"], mine["user"], mine["name"], mine["scopes"]) == (made[1]["id"], "bob", "two", [])
    assert not {"key", "digest"} & mine.keys()
    done = millstream("api-keys", "remove", mine["id"], cwd=work)
    assert (done.returncode, done.stdout) == (0, "removed bob's API key two\n")
    assert json.loads(millstream("api-keys", "list", "--user", "bob", "--json", cwd=work).stdout) == []
    assert millstream("api-keys", "remove", mine["id"], cwd=work).returncode == 2


def test_an_unknown_scope_is_refused_with_those_that_there_are(work: Path) -> None:
    done = millstream("api-keys", "create", "ci", "--user", "ada", "--scope", "run:all", cwd=work)
    assert done.returncode == 2
    assert "'run:all'" in done.stderr
    assert "flows:read" in done.stderr
