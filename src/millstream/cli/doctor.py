"""`millstream doctor`: does everything that a job needs work on this machine?"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

import millstream
from millstream.cli import probes, servers
from millstream.cli.exits import Exit
from millstream.cli.findings import Finding, since
from millstream.cli.load import known_definitions
from millstream.cli.options import AsJson, Debug, EnvFile
from millstream.cli.pages import table
from millstream.cli.session import Session, write
from millstream.errors import MillstreamError
from millstream.urls import without_password

if TYPE_CHECKING:
    from millstream.settings import Settings

OPTIONAL = ("celery", "fastapi", "flask", "fsspec", "gunicorn", "psycopg", "redis", "uvicorn", "uvloop")
_PROBES = (("event loop", probes.on_loop), ("threads", probes.in_thread), ("processes", probes.in_process))


def doctor(context: typer.Context, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False) -> Exit:
    """Check that jobs can run here; exit 1 if something fails.

    Opens the ledger, asks the Redis of the event log and the broker where the settings name them, and really runs a
    task on the event loop, in a thread and in a process; leaves nothing behind.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    settings, finding = _look_at_settings(session)
    findings = [finding, _look_at_ledger(settings)]
    findings += [*servers.look_at_event_log(settings), *servers.look_at_broker(settings)]
    findings += asyncio.run(_probe(session, settings))
    machine = {
        "millstream": millstream.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpus": _cpus(),
    }
    optional = {name: _version(name) for name in OPTIONAL}
    if as_json:
        session.write_json({**machine, "checks": findings, "optional": optional})
    else:
        _write(session, machine, findings, optional)
    return Exit.OK if all(finding.is_ok for finding in findings) else Exit.FAILED


def _look_at_settings(session: Session) -> tuple[Settings, Finding]:
    """Return the settings with what was found; the defaults, where they are wrong."""
    began = time.perf_counter()
    try:
        settings = session.settings()
        known_definitions(None, settings.imports)
    except MillstreamError as error:
        return session.default_settings(), Finding("settings", False, str(error), since(began))
    given = sum(source.kind != "default" for source in settings.sources().values())
    return settings, Finding("settings", True, f"{given or 'none'} set, all valid", since(began))


def _look_at_ledger(settings: Settings) -> Finding:
    from millstream.ledger.database import NoLedgerError  # noqa: PLC0415  SQLAlchemy: --help does without
    from millstream.ledger.maintenance import Keeper  # noqa: PLC0415  as above

    began, place = time.perf_counter(), without_password(settings.effective_database_url)
    try:
        revision = Keeper(settings.effective_database_url).look()
    except NoLedgerError:
        return Finding("ledger", True, f"none yet: {place}", since(began))
    except MillstreamError as error:
        return Finding("ledger", False, str(error), since(began))
    return Finding("ledger", True, f"{place}, revision {revision}", since(began))


async def _probe(session: Session, settings: Settings) -> list[Finding]:
    findings = []
    async with session.app(settings.model_copy(update={"durability": "off"})) as app:
        for name, work in _PROBES:
            began = time.perf_counter()
            try:
                job = await app.submit(work)
                findings.append(Finding(name, True, f"{await job.result()} answered", since(began)))
            except Exception as error:  # noqa: BLE001  whatever does not work here is a finding
                findings.append(Finding(name, False, f"{type(error).__name__}: {error}", since(began)))
    return findings


def _write(
    session: Session, machine: dict[str, Any], findings: Sequence[Finding], optional: dict[str, str | None]
) -> None:
    out = session.out
    out.print(Text.assemble((f"millstream {machine['millstream']}", "bold")))
    cpus = f"{machine['cpus']} CPU{'' if machine['cpus'] == 1 else 's'}"
    out.print(Text(f"{machine['python']} · {machine['platform']} · {cpus}", "dim"), soft_wrap=True)
    out.print()
    listed = table("", "", "", "")
    listed.show_header = False
    for finding in findings:
        mark = Text("✓", "green") if finding.is_ok else Text("✗", "red")
        took = Text(f"{finding.milliseconds:.1f} ms", "dim", justify="right")
        listed.add_row(mark, Text(finding.check, "cyan"), Text(finding.detail, "" if finding.is_ok else "red"), took)
    write(out, listed)
    out.print()
    present = [f"{name} {version}" for name, version in optional.items() if version]
    absent = [name for name, version in optional.items() if not version]
    packages = Table.grid(padding=(0, 3, 0, 0))
    packages.add_row("optional", "present", ", ".join(present) or "none", style="dim")
    packages.add_row("", "absent", ", ".join(absent) or "none", style="dim")
    write(out, packages)


def _cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
