"""Makes command groups that look and behave alike."""

from __future__ import annotations

import typer

from millstream.cli.exits import Exit


def make_group(name: str, about: str) -> typer.Typer:
    """Return an empty group of commands, which without a command shows its help.

    Args:
        name: Its name on the command line.
        about: One line for the help.
    """
    group = typer.Typer(name=name, help=about, invoke_without_command=True, rich_markup_mode=None)
    group.callback()(_help_unless_command)
    return group


def _help_unless_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(Exit.USAGE)
