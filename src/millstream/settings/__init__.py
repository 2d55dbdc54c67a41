"""Settings: what can be set, where each value was read, and which values this version refuses.

Only `Settings.load` reads the environment and the files; every other part is handed the finished, frozen `Settings`.
Importing this module imports pydantic, so the facade imports it on first use.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import yaml  # type: ignore[import-untyped, unused-ignore]  # PyYAML ships no types; the stubs may be installed or not
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from millstream.errors import SettingsError
from millstream.settings.kinds import Count, Destinations, Directory, Modules, Seconds, SomeSeconds, expanded, lower
from millstream.settings.langflow import LangflowSettings
from millstream.settings.server import ServerSettings
from millstream.urls import without_password


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a setting was read.

    Args:
        kind: The sort of place.
        key: The name under which it stands there, where that is not the setting's own.
        path: The file, where it is one.

    Example:
        >>> str(Source("environment", "MILLSTREAM_WORKERS"))
        'environment MILLSTREAM_WORKERS'
    """

    kind: Literal["argument", "environment", ".env", "config.yaml", "default"]
    key: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, f"({self.path})" if self.path else "", self.key)))


class Settings(ServerSettings):
    """All settings of one process, checked and frozen.

    `Settings.load` reads them from where the user put them. Made directly, a `Settings` has the values that are passed
    and the defaults: no file or environment is read, and what is missing for them is not noticed.

    Example:
        >>> Settings(max_threads=8).max_threads
        8
    """

    imports: Modules = ()
    durability: Annotated[Literal["full", "relaxed", "off"], BeforeValidator(lower)] = "full"
    lease_seconds: SomeSeconds = 15.0
    max_crashes: Count = 3
    conduct_linger: Seconds = 30.0
    max_value_bytes: Count = 64 << 20
    retention_days: Seconds = 30.0  # 0: until somebody purges them
    drain_grace: Seconds = 25.0

    max_segments: Count = 1000
    max_threads: Annotated[int, Field(ge=1, le=1000)] = 40
    max_processes: Count | None = None  # None: as many as there are CPUs
    max_graph_nodes: Count = 100_000
    draw_timeout: SomeSeconds = 5.0
    disconnect_grace: Seconds = 5.0

    files_dir: Directory | None = None
    egress_allow: Destinations = ()

    task_always_eager: bool = False
    task_eager_propagates: bool = False

    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = "warning"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(lower)] = "console"

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    _gunicorn_args: str | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, *, env_file: Path | str | None = None, **overrides: object) -> Self:
        """Read the settings from all sources; of several values for one setting the first in this order counts.

        `overrides`, the environment's `MILLSTREAM_*` and then `LANGFLOW_*`, the same two of the `.env` file, the
        `config.yaml` in `config_dir` or else in the working directory, the defaults. A value that is empty (`None`,
        in YAML `null`) counts as not set.

        Args:
            env_file: The `.env` file; it must exist. None: `.env` in the working directory, if there is one.
            **overrides: Values by name of the setting.

        Returns:
            The settings; `sources` tells where each was read.

        Raises:
            SettingsError: A name is unknown, a value is wrong or needs what is not there, or a file cannot be read. The
                message has one line for each such problem.

        Example:
            >>> Settings.load(imports="shop.tasks, shop.flows").imports
            ('shop.tasks', 'shop.flows')
        """
        reading = _Reading()
        reading.take(_Given(name, value, Source("argument")) for name, value in overrides.items())
        reading.take(_from_variables(EnvSettingsSource(BaseSettings, env_ignore_empty=True).env_vars, "environment"))
        reading.take(_from_env_file(env_file, reading.beside))
        reading.take(_from_yaml(expanded(Path(str(reading.value("config_dir") or "."))) / "config.yaml"))
        return cls._read(reading)

    @classmethod
    def of(cls, **values: object) -> Self:
        """Return settings with these values, and the defaults of all others: no source is read.

        Raises:
            SettingsError: As `load` raises it.

        Example:
            >>> Settings.of(max_treads=3)
            Traceback (most recent call last):
            millstream.errors.SettingsError: max_treads (argument): no such setting; did you mean max_threads?
        """
        reading = _Reading()
        reading.take(_Given(name, value, Source("argument")) for name, value in values.items())
        return cls._read(reading)

    @classmethod
    def _read(cls, reading: _Reading) -> Self:
        settings = cls(**reading.valid_values())
        settings._sources = {name: given.source for name, given in reading.given.items()}
        settings._gunicorn_args = reading.beside.get(GUNICORN_ARGS.lower())
        if problems := [*reading.problems, *settings.missing(reading.refused)]:
            raise SettingsError("\n".join(problems))
        return settings

    @property
    def effective_database_url(self) -> str:
        """The ledger's database: `database_url`, else the file `ledger.db` in `config_dir` or else in `.millstream`.

        Example:
            >>> Settings(config_dir="/srv/shop").effective_database_url
            'sqlite:////srv/shop/ledger.db'
        """
        return self.database_url or f"sqlite:///{self._own_directory() / 'ledger.db'}"

    @property
    def effective_gunicorn_args(self) -> str:
        """Gunicorn's own options: `GUNICORN_CMD_ARGS` of the environment, else of the `.env` file."""
        return os.environ.get(GUNICORN_ARGS) or self._gunicorn_args or ""

    @property
    def effective_files_dir(self) -> Path:
        """The directory of flows' files: `files_dir`, else `files` in `config_dir` or else in `.millstream`.

        Example:
            >>> Settings(config_dir="/srv/shop").effective_files_dir.as_posix()
            '/srv/shop/files'
        """
        return (self.files_dir or self._own_directory() / "files").absolute()

    def _own_directory(self) -> Path:
        return (self.config_dir or Path(".millstream")).absolute()

    def sources(self) -> dict[str, Source]:
        """Return where the value of each setting was read, by name of the setting.

        Example:
            >>> str(Settings.load(max_threads=8).sources()["max_threads"])
            'argument'
        """
        passed = dict.fromkeys(self.model_fields_set, Source("argument"))
        return dict.fromkeys(type(self).model_fields, Source("default")) | passed | self._sources

    def display(self, name: str) -> str:
        """Return the value of a setting as text to show: `***` stands for passwords.

        Args:
            name: A setting.

        Raises:
            AttributeError: There is no such setting.

        Example:
            >>> Settings(redis_url="rediss://me:secret@example.org:6379/1").display("redis_url")
            'rediss://***@example.org:6379/1'
        """
        match getattr(self, name):
            case None | ():
                return "not set"
            case bool(value):
                return str(value).lower()
            case tuple(value):
                return ",".join(value)
            case value:
                return _presentable(name, str(value))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, self.display(name)) for name in type(self).model_fields if name in self.model_fields_set]

    def missing(self, refused: Collection[str] = ()) -> Iterator[str]:
        """Yield a line for each value that needs what is not there: a package or another setting.

        Args:
            refused: Settings that were given, but not as they have to be: nothing is missing for want of them.

        Example:
            >>> next(Settings(celery_enabled=True).missing()).partition(";")[0]
            'celery_enabled = true (argument): needs a broker'
        """
        sources = self.sources()
        of_workers = self._celery_problems(refused, is_durable=self.durability != "off")
        for name, problem in chain(of_workers, self._event_log_problems(), self._server_problems()):
            yield f"{name} = {self.display(name)} ({sources[name]}): {problem}"


class _Given(NamedTuple):
    """A value that a source gives for what it says is a setting."""

    name: str
    value: object
    source: Source


@dataclass
class _Reading:
    """What the sources give, the best one first, every problem met on the way, and the settings that it is about."""

    given: dict[str, _Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    beside: dict[str, str] = field(default_factory=dict)
    """What the `.env` file gives that is no setting of ours, and counts all the same."""

    def take(self, layer: Iterable[_Given]) -> None:
        """Take over what a source gives beyond the better sources before it."""
        try:
            for item in layer:
                if item.name not in Settings.model_fields:
                    self.problems.append(self._unknown(item))
                elif item.value not in (None, ""):
                    self.given.setdefault(item.name, item)
        except SettingsError as error:
            self.problems.append(str(error))

    def value(self, name: str) -> object:
        """Return the value given so far, unchecked."""
        return self.given[name].value if name in self.given else None

    def valid_values(self) -> dict[str, Any]:
        """Return the values that are right; the others become problems."""
        values: dict[str, Any] = {name: item.value for name, item in self.given.items()}
        try:
            Settings(**values)
        except ValidationError as error:
            wrong = {str(e["loc"][0]): e for e in reversed(error.errors())}  # of a list's items, the first counts
            self.refused.update(wrong)
            for name in sorted(wrong):
                told = wrong[name].get("ctx", {}).get("error") or f"give {_allowed(name)}"
                shown = _presentable(name, repr(values.pop(name)))
                self.problems.append(f"{name} = {shown} ({self.given[name].source}): {told}")
        return values

    def _unknown(self, item: _Given) -> str:
        line = f"{item.name} ({item.source}): no such setting"
        if item.name.upper() == GUNICORN_ARGS:
            return f"{line}; Gunicorn's options are in {GUNICORN_ARGS}, in the environment or in .env"
        for close in difflib.get_close_matches(item.name.lower(), Settings.model_fields, n=1):
            self.refused.add(close)
            line += f"; did you mean {f'MILLSTREAM_{close.upper()}' if item.source.key else close}?"
        return line


GUNICORN_ARGS: Final = "GUNICORN_CMD_ARGS"
"""The variable with Gunicorn's own options. It has one name, and no prefix: it is Gunicorn's."""

_NO_SETTINGS = frozenset({"api_key"})
"""Variables of ours that are no settings: the credential of a command that asks a server (`millstream jobs --url`)."""


def _from_variables(
    variables: Mapping[str, str | None], kind: Literal["environment", ".env"], path: Path | None = None
) -> Iterator[_Given]:
    """Yield our variables and after them those of Langflow that we share; its others are not ours to judge."""
    for prefix, is_ours in (("millstream_", True), ("langflow_", False)):
        for variable, value in variables.items():
            name = variable.removeprefix(prefix)
            is_named = name != variable and name not in _NO_SETTINGS
            if is_named and (is_ours or name in LangflowSettings.model_fields):
                yield _Given(name, value, Source(kind, variable.upper(), path))


def _from_env_file(env_file: Path | str | None, beside: dict[str, str]) -> Iterator[_Given]:
    path = expanded(Path(env_file or ".env")).absolute()
    if env_file and (path.is_dir() or not path.exists()):
        raise SettingsError(f"{path}: there is no such .env file")
    try:
        variables = DotEnvSettingsSource(BaseSettings, env_file=path, env_ignore_empty=True).env_vars
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{path}: the .env file cannot be read: {error}") from error
    if args := variables.get(GUNICORN_ARGS.lower()):
        beside[GUNICORN_ARGS.lower()] = args
    yield from _from_variables(variables, ".env", path)


def _from_yaml(path: Path) -> Iterator[_Given]:
    path = path.absolute()
    if not path.is_file():
        return
    try:
        # Every scalar stays the text it is, so that a value means the same in each source; YAML's own rules would make
        # `durability: off` false, and 8 of `010`.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  makes text only
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{path}, line {line}: not valid YAML: {error.problem}") from None  # it quotes the file
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {type(error).__name__}") from error
    if not isinstance(content or {}, dict):
        raise SettingsError(f"{path}: has to be a mapping of settings to values, as in `max_threads: 8`")
    for name, value in (content or {}).items():
        yield _Given(name, None if value in ("null", "~") else value, Source("config.yaml", path=path))


def _presentable(name: str, text: str) -> str:
    """Put `***` in place of what must not be shown."""
    if name in ("superuser_password", "message_key"):
        return "***"
    return without_password(text) if name.endswith("_url") or "://" in text else text


def _allowed(name: str) -> str:
    """Say which values a setting takes, from its type."""
    whole = Settings.model_json_schema()["properties"][name]
    schema = next(option for option in whole.get("anyOf", [whole]) if option.get("type") != "null")
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text"}
    match schema:
        case {"enum": [*others, last]}:
            return f"{', '.join(others)} or {last}"
        case {"type": kind, "minimum": low, "maximum": high}:
            return f"{kinds[kind]} from {low:g} to {high:g}"
        case {"type": kind, "minimum": low}:
            return f"{kinds[kind]} of at least {low:g}"
        case {"type": kind, "exclusiveMinimum": low}:
            return f"{kinds[kind]} above {low:g}"
        case {"type": kind}:
            return kinds.get(kind, "module names, separated by commas")
    raise NotImplementedError(name)
