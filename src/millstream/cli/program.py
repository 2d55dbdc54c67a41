"""The program `millstream`: its commands, and what becomes of an error that none of them handles."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import millstream
from millstream.authoring.registry import Source
from millstream.cli import api_keys, config, doctor, flows, jobs, ledger, users
from millstream.cli.exits import Exit, explain
from millstream.cli.run import run
from millstream.cli.serve import serve
from millstream.cli.session import Session
from millstream.cli.streams import fill_missing
from millstream.cli.worker import worker

_ORDER = ("run", "serve", "worker", "jobs", "flows", "users", "api-keys", "ledger", "config", "doctor")


class _InOrder(TyperGroup):
    """The commands in the order in which one gets to know them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands' names; those that are not in the order come last."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


program = typer.Typer(
    name="millstream",
    cls=_InOrder,
    help="One engine for tasks and flows in Python.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
program.command("run")(run)
program.command("serve")(serve)
program.command("worker")(worker)
program.add_typer(jobs.group, name="jobs")
program.add_typer(flows.group, name="flows")
program.add_typer(users.group, name="users")
program.add_typer(api_keys.group, name="api-keys")
program.add_typer(ledger.group, name="ledger")
program.add_typer(config.group, name="config")
program.command("doctor")(doctor.doctor)


@program.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version, and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"millstream {millstream.__version__}")
        raise typer.Exit(Exit.OK)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.OK)


def main(arguments: Sequence[str] | None = None, *, host: Source | None = None, called: str = "millstream") -> int:
    """Run one command, and return the exit code; errors become lines on standard error.

    Args:
        arguments: The command line without the program's name; by default that of this process.
        host: Whose program took this command line in: its settings count, and a worker knows its tasks.
        called: The program's name, as usage shows it.
    """
    fill_missing()
    session = Session(host=host)
    try:
        code = program(args=arguments, prog_name=called, obj=session, standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the last resort
        code, lines = explain(error)
        if session.is_debugging:
            traceback.print_exception(error.__cause__ or error)
        session.complain(lines)
    return int(code or Exit.OK)
