"""Gunicorn's own settings: those that follow from ours, and those that GUNICORN_CMD_ARGS may give."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from gunicorn.config import Config

from millstream.errors import SettingsError
from millstream.server.processes.log import GunicornLog
from millstream.server.processes.worker import ServerWorker
from millstream.settings import GUNICORN_ARGS as VARIABLE
from millstream.settings import Settings

_TAKEN: Final = frozenset(
    ("max_requests", "max_requests_jitter", "timeout", "worker_tmp_dir", "pidfile", "proc_name", "control_socket")
)

_REFUSED: Final = MappingProxyType(
    {
        "bind": "set MILLSTREAM_HOST and MILLSTREAM_PORT",
        "daemon": "leave it to systemd, or to a container, to have it run in the background",
        "keyfile": "put a proxy with TLS in front, and set MILLSTREAM_TRUSTED_PROXIES",
        "certfile": "put a proxy with TLS in front, and set MILLSTREAM_TRUSTED_PROXIES",
        "user": "start the program as that user",
        "group": "start the program as that group",
        "config": "set what it says by settings of millstream, or as options in this variable",
    }
)
"""Options that cannot be honoured, and whose loss nobody may overlook; and what to do instead."""

_INSTEAD: Final = MappingProxyType(
    {
        "workers": "MILLSTREAM_WORKERS",
        "preload_app": "MILLSTREAM_GUNICORN_PRELOAD",
        "graceful_timeout": "MILLSTREAM_DRAIN_GRACE",
        "loglevel": "MILLSTREAM_LOG_LEVEL",
        "forwarded_allow_ips": "MILLSTREAM_TRUSTED_PROXIES",
        "reload": "serve --reload",
    }
)
"""Options without an effect here, and the settings that are meant."""

_CLOSING_SECONDS: Final = 10
"""How long a worker may take for its end after `drain_grace`: it then hands on what it holds, and closes the ledger."""

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  the files there have no name, and who made them alone can write them
"""Where signs of life are written: in memory, since a disk that hangs must not make a worker look dead."""


def configure(settings: Settings) -> tuple[Config, list[str]]:
    """Return Gunicorn's settings, and what is to be said of options in GUNICORN_CMD_ARGS that have no effect.

    Args:
        settings: Ours.

    Raises:
        SettingsError: GUNICORN_CMD_ARGS has an option that does not exist, has a wrong value, or cannot be honoured.
    """
    config = Config()
    ours: dict[str, Any] = {
        "worker_class": ServerWorker,
        "logger_class": GunicornLog,
        "workers": settings.workers,
        "timeout": settings.worker_timeout,
        "graceful_timeout": math.ceil(settings.drain_grace) + _CLOSING_SECONDS,
        "control_socket_disable": True,
    }
    if os.access(_MEMORY, os.W_OK):
        ours["worker_tmp_dir"] = str(_MEMORY)
    for name, value in ours.items():
        config.set(name, value)
    return config, _take_options(config, settings.effective_gunicorn_args)


def _take_options(config: Config, text: str) -> list[str]:
    try:
        given = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE}: {str(error).lower()}") from error
    parser = config.parser()
    parser.error = _refuse  # else it writes its usage, and ends the program
    parser._print_message = _refuse_to_print  # noqa: SLF001  what --help and --version call before they end it
    named = {name: value for name, value in vars(parser.parse_args(given)).items() if value not in (None, [])}
    flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}  # noqa: SLF001  it has no other list of them
    if "args" in named:
        raise SettingsError(f"{VARIABLE}: {named['args'][0]!r} is no option; the application is millstream's own")
    for name, instead in _REFUSED.items():
        if name in named:
            raise SettingsError(f"{VARIABLE}: {flags[name]} cannot be used; {instead}")
    for name in sorted(_TAKEN & named.keys()):
        _set(config, name, named.pop(name), flags[name])
        if name == "control_socket":
            config.set("control_socket_disable", value=False)
    return [_without_effect(flags[name], _INSTEAD.get(name)) for name in sorted(named)]


def _set(config: Config, name: str, value: Any, flag: str) -> None:
    if name == "worker_tmp_dir" and not os.access(value, os.W_OK | os.X_OK):
        raise SettingsError(f"{VARIABLE}: {flag}: {value} is no directory that can be written")
    try:
        config.set(name, value)
    except Exception as error:  # they are of any class
        raise SettingsError(f"{VARIABLE}: {flag}: {error}") from error


def _without_effect(flag: str, instead: str | None) -> str:
    return f"{VARIABLE}: {flag} has no effect here" + (f"; set {instead}" if instead else "")


def _refuse_to_print(*_: object) -> NoReturn:
    raise SettingsError(f"{VARIABLE}: --help and --version start no server; leave them out")


def _refuse(message: str) -> NoReturn:
    raise SettingsError(f"{VARIABLE}: {message}")
