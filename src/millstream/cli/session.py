"""One call of the program: where it writes, and what its common options said."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from millstream.authoring.registry import Registry, Source
from millstream.cli.load import known_definitions

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.settings import Settings

_UNBOUNDED = 100_000


def console_for(file: TextIO) -> Console:
    """Return a console that writes what it is given: no wrapping but on a terminal, no marks, no highlighting.

    What the file's encoding cannot write is escaped.
    """
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(errors="backslashreplace")
    width = None if file.isatty() else _UNBOUNDED
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def write(console: Console, what: RenderableType) -> None:
    """Write something made of several lines; off a terminal without the blanks that fill its lines."""
    if console.is_terminal:
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


@dataclass
class Session:
    """One call of the program.

    Attributes:
        out: Standard output: what was asked for.
        err: Standard error: everything that is said about it.
        is_debugging: Whether `--debug` was given.
        env_file: What `--env-file` named.
        host: What brings settings and tasks: what took this command line in (see `main`), or what a worker's -A names.
    """

    out: Console = field(default_factory=lambda: console_for(sys.stdout))
    err: Console = field(default_factory=lambda: console_for(sys.stderr))
    is_debugging: bool = False
    env_file: Path | None = None
    host: Source | None = None
    _named: Registry = field(default_factory=Registry)

    @classmethod
    def of(cls, context: typer.Context, *, debug: bool, env_file: Path | None = None) -> Session:
        """Return the session of a command, with what its options said."""
        session: Session = context.obj
        session.is_debugging = debug
        session.env_file = env_file
        return session

    def settings(self, *, needs_workers: bool = True, **options: object) -> Settings:
        """Return the settings, of which the host's count most.

        Args:
            needs_workers: Whether it matters what is needed to reach workers, where `celery_enabled` is on. Who only
                looks at the ledger, or changes it, needs no broker: workers look into it too.
            options: What options of the command line set; `None`: what was not given.

        Raises:
            SettingsError: One is wrong.
        """
        from millstream.settings import Settings  # noqa: PLC0415  pydantic: --help and completion do without

        given = dict(self.host.settings()) if self.host is not None else {}
        if self.is_debugging:
            given["log_level"] = "debug"
        if not needs_workers:
            given["celery_enabled"] = False
        given |= {name: value for name, value in options.items() if value is not None}
        return Settings.load(env_file=self.env_file, **given)

    def take_in(self, app: str | None) -> None:
        """Load what a worker's `-A` names, and let the settings count that it brings.

        Raises:
            LoadError: It cannot be loaded, or is no app.
            DuplicateNameError: Two different definitions have one name.
        """
        self._named = known_definitions(app, ())
        if self.host is None:
            self.host = next(iter(self._named.sources), None)

    def known(self, imports: Iterable[str]) -> Registry:
        """Return the tasks and flows of a worker: of what was taken in, of the host, and of the setting `imports`.

        Raises:
            Exception: What `known_definitions` raises.
        """
        registry = self._named
        registry.adopt(known_definitions(None, imports))
        if self.host is not None:
            registry.take(self.host)
        return registry

    def default_settings(self) -> Settings:
        """Return the settings of somebody who has set nothing."""
        from millstream.settings import Settings  # noqa: PLC0415  as above

        return Settings()

    def app(self, settings: Settings, *, executes: bool | None = True) -> Millstream:
        """Return an app with these settings.

        Args:
            settings: The settings.
            executes: Whether it executes jobs, or only looks after them; `None`: unless Celery workers do.

        Raises:
            SettingsError: A module of the setting `imports` does not exist.
            LoadError: One fails while it is imported.
            DuplicateNameError: Two different definitions in them have one name.
        """
        from millstream.app import Millstream  # noqa: PLC0415  the engine: as for the settings
        from millstream.cli.logs import configure  # noqa: PLC0415  structlog: as for the settings

        configure(settings.log_level, settings.log_format)
        known_definitions(None, settings.imports)
        return Millstream(settings=settings, executes=executes)

    def complain(self, lines: Iterable[str]) -> None:
        """Write problems to standard error, a line each."""
        for line in lines:
            said = Text.assemble(("millstream: ", "bold red"), " ".join(line.split("\n")))
            self.err.print(said, soft_wrap=True)

    def write_json(self, value: Any) -> None:
        """Write a value to standard output as JSON."""
        encoded = msgspec.json.encode(value)
        self.write_utf8(msgspec.json.format(encoded, indent=2).decode())

    def write_utf8(self, text: str) -> None:
        """Write a line to standard output as UTF-8, which JSON is in whatever encoding the terminal has."""
        self.out.file.flush()
        sys.stdout.buffer.write(f"{text}\n".encode())
        sys.stdout.buffer.flush()
