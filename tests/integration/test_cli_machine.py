"""What the program says of itself and of the machine: version, help, completion, settings, health."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import millstream as package
import millstream.cli
from millstream.ledger.base import LedgerUnavailableError
from millstream.ledger.maintenance import Keeper
from tests.integration.cli_program import environment
from tests.integration.cli_program import millstream as run

MODULES = sorted(module.name for module in pkgutil.iter_modules(millstream.cli.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"millstream.cli.{name}")).failed == 0


def test_the_version_is_one_line(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout == f"millstream {package.__version__}\n"


def test_the_help_lists_the_commands_in_order_and_without_one_it_is_shown(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    commands = done.stdout.partition("Commands:\n")[2].splitlines()
    assert " ".join(line.split()[0] for line in commands) == (
        "run serve worker jobs flows users api-keys ledger config doctor"
    )
    assert run(cwd=tmp_path).stdout == done.stdout


def test_a_group_without_a_command_shows_its_help_as_wrong_usage(tmp_path: Path) -> None:
    done = run("flows", cwd=tmp_path)
    assert done.returncode == 2
    assert "validate" in done.stdout


def test_a_shell_completes_commands(tmp_path: Path) -> None:
    asked = {"_MILLSTREAM_COMPLETE": "complete_bash", "COMP_WORDS": "millstream f", "COMP_CWORD": "1"}
    assert run(cwd=tmp_path, **asked).stdout == "flows\n"


def test_importing_the_main_module_loads_nothing_of_the_command_line() -> None:
    program = "import millstream.__main__, sys; sys.exit('typer' in sys.modules or 'millstream.cli' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_help_needs_neither_engine_nor_settings(tmp_path: Path) -> None:
    program = (
        "import sys; from millstream.cli.program import main; main(['--help'])\n"
        "sys.exit(bool({'millstream.app', 'pydantic', 'structlog'} & set(sys.modules)))"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, check=True
    )


def test_settings_are_shown_with_their_sources_and_without_passwords(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("max_segments: 7\n", encoding="utf-8")
    done = run("config", "show", "--sources", cwd=tmp_path, MILLSTREAM_MAX_THREADS="8")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in done.stdout.splitlines()[1:]}
    assert rows["max_threads"].split(maxsplit=1) == ["8", "environment MILLSTREAM_MAX_THREADS"]
    assert rows["max_segments"].split(maxsplit=1) == ["7", f"config.yaml ({tmp_path / 'config.yaml'})"]
    assert rows["log_level"].split(maxsplit=1) == ["warning", "default"]
    assert "source" not in run("config", "show", cwd=tmp_path).stdout


def test_settings_are_told_to_programs_with_their_types(tmp_path: Path) -> None:
    (tmp_path / "more.env").write_text("MILLSTREAM_IMPORTS=json,math\n", encoding="utf-8")
    done = run("config", "show", "--json", "--env-file", "more.env", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["imports"]["value"] == ["json", "math"]
    assert told["imports"]["source"].startswith(".env ")
    assert told["max_threads"] == {"value": 40, "source": "default"}
    assert told["celery_enabled"] == {"value": False, "source": "default"}


def test_the_doctor_really_runs_a_task_in_every_place(tmp_path: Path) -> None:
    done = run("doctor", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert told["millstream"] == package.__version__
    assert told["cpus"] >= 1
    checks = {check["check"]: check for check in told["checks"]}
    assert list(checks) == ["settings", "ledger", "event loop", "threads", "processes"]
    assert all(check["is_ok"] and check["milliseconds"] > 0 for check in told["checks"])
    assert checks["processes"]["detail"] != checks["event loop"]["detail"]
    assert checks["ledger"]["detail"] == f"none yet: sqlite:///{tmp_path}/.millstream/ledger.db"
    assert "celery" in told["optional"]
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_opens_the_ledger(tmp_path: Path) -> None:
    assert run("ledger", "upgrade", cwd=tmp_path).returncode == 0
    assert "✓   ledger       sqlite:///" in run("doctor", cwd=tmp_path).stdout
    done = run("doctor", cwd=tmp_path, MILLSTREAM_DATABASE_URL="postgresql://me:s3cr3t@127.0.0.1:1/jobs")
    assert done.returncode == 1
    assert "✗   ledger " in done.stdout
    assert "s3cr3t" not in done.stdout


def test_the_doctor_finds_a_ledger_that_is_damaged(tmp_path: Path) -> None:
    assert run("ledger", "upgrade", cwd=tmp_path).returncode == 0
    ledger = tmp_path / ".millstream" / "ledger.db"
    ledger.write_bytes(ledger.read_bytes()[:8192] + bytes(ledger.stat().st_size - 8192))
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"✗   ledger +the ledger .*: database disk image is malformed", done.stdout)


@pytest.mark.parametrize("is_there", [False, True])
def test_the_doctor_finds_a_place_that_cannot_be_written_to(
    *, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    if is_there:
        Keeper(url).upgrade()
    monkeypatch.setattr(os, "access", lambda place, _how: place != tmp_path)  # root may write anywhere
    with pytest.raises(LedgerUnavailableError, match=f"cannot be written to: {tmp_path} is read-only"):
        Keeper(url).look()


def test_the_doctor_tells_of_wrong_settings_and_goes_on(tmp_path: Path) -> None:
    done = run("doctor", cwd=tmp_path, MILLSTREAM_MAX_THREADS="none")
    marks = [line[0] for line in done.stdout.splitlines() if line[:1] in ("✓", "✗")]
    assert (done.returncode, marks) == (1, ["✗", "✓", "✓", "✓", "✓"])
    assert "max_threads = 'none'" in done.stdout


def test_the_program_runs_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from millstream import task\n@task\ndef one(): return 1\n", encoding="utf-8")
    tmp_path.chmod(0o500)
    try:
        done = run("run", "one.py", cwd=tmp_path, HOME="/nonexistent", MILLSTREAM_DURABILITY="off")
        assert done.stdout == "1\n"
    finally:
        tmp_path.chmod(0o700)
