"""`flask millstream …`: the program `millstream` with the settings and the tasks of a Flask app."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from millstream.cli.program import main
from millstream.integrations.flask.celery import FlaskCelery


def command(celery: FlaskCelery) -> click.Command:
    """Return the command; it hands its arguments on as they are, to the same commands as `millstream` has."""

    @click.command(
        "millstream",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        short_help="Run flows, work on jobs and look after them.",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @with_appcontext
    def millstream(arguments: tuple[str, ...]) -> None:
        click.get_current_context().exit(main(list(arguments), host=celery, called="flask millstream"))

    return millstream
