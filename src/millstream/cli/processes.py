"""`millstream serve` with several processes: what their master and they themselves do for the command line."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from millstream.cli.exits import Exit, explain
from millstream.cli.servers import check_event_log
from millstream.cli.session import Session
from millstream.cli.worker import collect_seldom
from millstream.errors import SettingsError
from millstream.urls import is_loopback

if TYPE_CHECKING:
    from fastapi import FastAPI

    from millstream.server.processes.card import Failure
    from millstream.settings import Settings

_NO_TLS: Final = "passwords and tokens can be read on the way; put a proxy with TLS in front, and set trusted_proxies"
_NO_EVENT_LOG: Final = (
    "what runs in one process is seen in the others through the ledger: events up to a second late, tokens not at all; "
    "set job_queue_type = redis"
)


def assemble(session: Session, settings: Settings, say: Callable[[str], None], *, executes: bool | None) -> FastAPI:
    """Return the server's application, over an app that knows what the command line named.

    Args:
        session: The call of the program.
        settings: The settings.
        say: Is told what whoever starts the server has to know; a line each.
        executes: As for `Session.app`.

    Raises:
        Exception: What `Session.app` and `Session.known` raise.
    """
    from millstream.server.assemble import create_app  # noqa: PLC0415  FastAPI: --help does without

    program = session.app(settings, executes=executes)
    program.registry.adopt(session.known(settings.imports))
    return create_app(settings, app=program, say=say)


def warn_of_network(session: Session, settings: Settings) -> None:
    """Say so where others than this machine can send passwords without TLS."""
    if not is_loopback(settings.host) and not settings.trusted_proxies:
        session.complain([f"listening on {settings.host} without TLS: {_NO_TLS}"])


def wants_several(settings: Settings) -> bool:
    """Return whether the settings ask for more than one process, the master among them."""
    return settings.workers > 1 or settings.gunicorn_preload


def has_gunicorn() -> bool:
    """Return whether there is Gunicorn, which Windows does not have."""
    return find_spec("gunicorn") is not None


def can_be_several(session: Session, settings: Settings) -> bool:
    """Return whether this system has several processes for one server; says so if not.

    Raises:
        SettingsError: They would share nothing.
    """
    if not has_gunicorn():
        session.complain([f"workers = {settings.workers}: there is no Gunicorn here, so the server is one process"])
        return False
    if settings.durability == "off":
        found = settings.sources()["durability"]
        raise SettingsError(
            f"durability = off ({found}): a job then lives in one process, and the others know nothing of it; "
            "it goes with workers = 1"
        )
    return True


class _Look(NamedTuple):
    """What a child found that has started the server once, and ended it.

    Attributes:
        settings: The settings.
        modules: What it has imported for that.
    """

    settings: Settings
    modules: list[str]


class Processes:
    """The processes of one server.

    Args:
        session: The call of the program.
        app: What `-A` named.
        given: The settings that are options.
    """

    def __init__(self, session: Session, app: str | None, given: Mapping[str, Any]) -> None:
        """Load nothing yet."""
        self._session, self._app, self._given = session, app, given
        self._loaded: tuple[FastAPI, Settings] | None = None

    def run(self, settings: Settings) -> int:
        """Serve until the program is stopped, and return its exit code; in a worker it ends with `SystemExit`.

        Args:
            settings: The settings as they were found first: whether the master loads the application, for all workers,
                is decided by these.

        Raises:
            Exception: What keeps the server from starting.
        """
        from millstream.cli.logs import configure  # noqa: PLC0415  structlog: --help does without
        from millstream.server.launch import listen  # noqa: PLC0415  the server: as above
        from millstream.server.processes.master import Program, StartError, serve  # noqa: PLC0415  as above
        from millstream.server.processes.options import configure as configure_gunicorn  # noqa: PLC0415  as above

        configure_gunicorn(settings)  # what is wrong with its options is told before anything is begun
        try:
            settings = self._preload() if settings.gunicorn_preload else self._prepare(is_first=True).settings
            configure(settings.log_level, settings.log_format)
            config, remarks = configure_gunicorn(settings)
            self._warn(settings, remarks)
            program = Program(self._load, collect_seldom, self._look_again, self._explain, _may_pass, self._say)
            with listen(settings.host, settings.port) as listening:
                self._say("✓ Launching millstream...")
                serve(program, config, listening, settings.drain_grace)
        except StartError as error:
            self._session.complain(error.failure.lines)
            return error.failure.code
        return Exit.OK

    # ------------------------------------------------------------------------------------------------ in the master
    def _preload(self) -> Settings:
        self._say("[preload] initializing services in master")
        self._session.take_in(self._app)
        settings = self._session.settings(**self._given)
        self._loaded = assemble(self._session, settings, _unsaid, executes=None), settings
        for name in self._prepare(is_first=True).modules:  # those that are imported when they are needed first
            with suppress(Exception):  # and that is early enough for one that cannot be imported here
                importlib.import_module(name)
        gc.collect()
        gc.freeze()
        self._say("[preload] master preload complete; workers will inherit shared state via COW")
        return settings

    def _prepare(self, *, is_first: bool) -> _Look:
        """Start and end the server once in a child: it makes the tables and the first user, and finds what is wrong.

        The master so opens no connection and starts no thread that the workers would inherit.

        Raises:
            StartError: The server cannot start.
        """
        from millstream.server.processes.aside import aside  # noqa: PLC0415  the server: --help does without
        from millstream.server.processes.master import StartError  # noqa: PLC0415  as above

        found = aside(lambda: self._look(is_first=is_first))
        if isinstance(found, _Look):
            return found
        raise StartError(found)

    def _look_again(self) -> Failure | None:
        from millstream.server.processes.aside import ChildDiedError  # noqa: PLC0415  the server: --help does without
        from millstream.server.processes.master import StartError  # noqa: PLC0415  as above

        try:
            self._prepare(is_first=False)
        except StartError as error:
            return error.failure
        except (ChildDiedError, OSError) as error:  # no memory, say: nobody may be ended by a reload
            return self._explain(error)
        return None

    def _warn(self, settings: Settings, remarks: list[str]) -> None:
        if settings.workers > 1 and settings.effective_job_queue_type == "asyncio":
            remarks = [f"job_queue_type = asyncio with {settings.workers} processes: {_NO_EVENT_LOG}", *remarks]
        self._session.complain(remarks)
        warn_of_network(self._session, settings)

    # ---------------------------------------------------------------------------------------------- in its children
    def _look(self, *, is_first: bool) -> _Look | Failure:
        from millstream.server.launch import listen  # noqa: PLC0415  the server: --help does without
        from millstream.server.processes.options import configure  # noqa: PLC0415  as above

        known = set(sys.modules)
        try:
            settings = self._settings()
            if is_first:  # what would end the start later, before a first user is made, and their password shown
                configure(settings)
                check_event_log(settings)
                listen(settings.host, settings.port).close()
            asyncio.run(_start_and_end(assemble(self._session, settings, self._say, executes=False)))
        except Exception as error:  # noqa: BLE001  whatever it is, the master tells it
            return self._explain(error)
        return _Look(settings, [name for name in sys.modules if name not in known])

    def _load(self) -> FastAPI:
        """Return the application, in a worker."""
        if self._loaded is None:
            from millstream.cli.logs import forget  # noqa: PLC0415  structlog: --help does without

            forget()  # what the user's code sets up counts, as in a process that runs alone
            self._loaded = assemble(self._session, settings := self._settings(), _unsaid, executes=None), settings
        return self._loaded[0]

    def _settings(self) -> Settings:
        if self._loaded is not None:
            return self._loaded[1]
        self._session.take_in(self._app)
        return self._session.settings(**self._given)

    # -------------------------------------------------------------------------------------------------- in all of them
    def _explain(self, error: BaseException) -> Failure:
        from millstream.server.processes.card import Failure  # noqa: PLC0415  the server: --help does without

        if self._session.is_debugging:
            traceback.print_exception(error.__cause__ or error)
        code, lines = explain(error)
        return Failure(int(code), lines)

    def _say(self, line: str) -> None:
        self._session.err.print(line, soft_wrap=True)


async def _start_and_end(api: FastAPI) -> None:
    async with api.router.lifespan_context(api):
        pass


def _may_pass(code: int) -> bool:
    return code == Exit.UNAVAILABLE


def _unsaid(_: str) -> None:
    """Say nothing: it was said before the workers were started."""
