"""`manage.py millstream …`: the program `millstream` with the settings and the tasks of a Django project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from millstream.cli.program import main


class Command(BaseCommand):  # type: ignore[misc]  # Django comes without types
    """The command; it hands its arguments on as they are."""

    help = "Run flows, work on jobs and look after them: `manage.py millstream --help` shows all."
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take all that comes."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it as a program, with the program's exit code."""
        sys.exit(self._run(argv[2:], f"{Path(argv[0]).name} {argv[1]}"))

    def handle(self, *_args: Any, arguments: list[str], **_options: Any) -> None:
        """Run it for `call_command`.

        Raises:
            CommandError: It ended with another exit code than 0.
        """
        code = self._run(arguments, "millstream")
        if code:
            raise CommandError(f"millstream {' '.join(arguments)} ended with {code}", returncode=code)

    def _run(self, arguments: list[str], called: str) -> int:
        return main(arguments, host=apps.get_app_config("millstream").celery, called=called)
