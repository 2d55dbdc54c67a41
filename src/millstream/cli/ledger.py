"""`millstream ledger`: is the ledger as it has to be, what can go, and is it of this version."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from millstream.cli.exits import Exit
from millstream.cli.groups import make_group
from millstream.cli.options import AsJson, Debug, EnvFile
from millstream.cli.session import Session, write
from millstream.clock import SystemClock
from millstream.urls import without_password

if TYPE_CHECKING:
    from millstream.ledger.maintenance import Cleaned, Keeper, Report
    from millstream.settings import Settings

group = make_group("ledger", "Look after the ledger that the settings name.")
_UNITS = ("kB", "MB", "GB", "TB")


@group.command("check")
def check(context: typer.Context, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False) -> Exit:
    """Check the database and all that is promised of it; exit 1 if something is wrong.

    Nothing is changed, and jobs may run meanwhile.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings(needs_workers=False)
    report = _keeper(settings).check()
    if as_json:
        session.write_json({"ledger": _place(settings), **_plain(report)})
    else:
        _write_report(session, _place(settings), report)
    return Exit.FAILED if report.problems else Exit.OK


@group.command("vacuum")
def vacuum(context: typer.Context, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False) -> Exit:
    """Remove what is kept no longer, and give back its room.

    Jobs that ended longer ago than the setting retention_days, and large values that none has used for a day.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings(needs_workers=False)
    retention = timedelta(days=settings.retention_days) if settings.retention_days else None
    cleaned = _keeper(settings).vacuum(SystemClock().now(), retention)
    if as_json:
        session.write_json({"ledger": _place(settings), **_plain(cleaned)})
    else:
        session.out.print(_told(cleaned), soft_wrap=True)
        if not cleaned.is_compacted:
            session.err.print("not compacted: processes use it; its free room is used again", style="dim")
    return Exit.OK


@group.command("upgrade")
def upgrade(context: typer.Context, as_json: AsJson = False, env_file: EnvFile = None, debug: Debug = False) -> Exit:
    """Bring the tables of an older version to this one, or make them where there are none."""
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings(needs_workers=False)
    before, after = _keeper(settings).upgrade()
    if as_json:
        session.write_json({"ledger": _place(settings), "before": before, "after": after})
    elif before is None:
        session.out.print(f"made the ledger, with revision {after}", soft_wrap=True)
    elif before == after:
        session.out.print(f"nothing to do: the ledger has revision {after}", soft_wrap=True)
    else:
        session.out.print(f"upgraded the ledger from revision {before} to {after}", soft_wrap=True)
    return Exit.OK


def _keeper(settings: Settings) -> Keeper:
    from millstream.ledger.maintenance import Keeper  # noqa: PLC0415  SQLAlchemy: --help and completion do without

    return Keeper(settings.effective_database_url)


def _place(settings: Settings) -> str:
    return without_password(settings.effective_database_url)


def _plain(told: Report | Cleaned) -> dict[str, object]:
    return {name: getattr(told, name) for name in told.__struct_fields__}


def _write_report(session: Session, place: str, report: Report) -> None:
    facts = Table.grid(padding=(0, 3, 0, 0))
    jobs = ", ".join(f"{count:,} {state}" for state, count in report.jobs.items())
    for name, value in (
        ("ledger", f"{place} (revision {report.revision}, {_size(report.bytes)})"),
        ("jobs", jobs or "none"),
        ("events", f"{report.events:,}"),
        ("large values", f"{report.large_values:,} ({_size(report.large_bytes)})"),
    ):
        facts.add_row(Text(name, "dim"), value)
    write(session.out, facts)
    session.out.print()
    if not report.problems:
        session.out.print(Text.assemble(("✓", "green"), " nothing is wrong"))
    for problem in report.problems:
        about = (f"job {problem.job}: ", "cyan") if problem.job else ""
        session.out.print(Text.assemble(("✗ ", "red"), about, problem.what), soft_wrap=True)


def _told(cleaned: Cleaned) -> str:
    removed = [
        _counted(cleaned.jobs, "job"),
        _counted(cleaned.graphs, "graph"),
        _counted(cleaned.large_values, "large value"),
    ]
    sizes = f"{_size(cleaned.bytes_before)}, now {_size(cleaned.bytes_after)}"
    return f"removed {', '.join(removed)} · the database had {sizes}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    """Return a number of bytes as people say it.

    >>> _size(999), _size(1_234_567)
    ('999 bytes', '1.2 MB')
    """
    size, unit = float(count), "bytes"
    for larger in _UNITS:
        if size < 1000:  # noqa: PLR2004  kilo
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
