"""`millstream serve`: the HTTP server, until it is stopped; that of several processes is in `processes.py`."""

from __future__ import annotations

import asyncio
import gc
import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.interrupts import Interrupts
from millstream.cli.options import AppOption, Debug, EnvFile
from millstream.cli.processes import (
    Processes,
    assemble,
    can_be_several,
    has_gunicorn,
    wants_several,
    warn_of_network,
)
from millstream.cli.servers import check_event_log
from millstream.cli.session import Session
from millstream.cli.worker import collect_seldom
from millstream.errors import SettingsError

if TYPE_CHECKING:
    from millstream.server.launch import HttpServer
    from millstream.settings import Settings


def serve(  # noqa: PLR0913, PLR0917  these are the options of a program
    context: typer.Context,
    app: AppOption = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on; by default the setting host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="The port; 0 takes one that is free. By default the setting.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Server processes; by default the setting workers.")
    ] = None,
    backend_only: Annotated[bool, typer.Option("--backend-only", help="Serve the API, and no pages.")] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a Python file here changes.")] = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> int:
    """Serve flows, builds and jobs over HTTP.

    It takes the flows that -A or the setting imports name. The first Ctrl-C or SIGTERM lets open requests and running
    jobs end for drain_grace seconds and hands on the rest; the second one kills it.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise WrongUseError('serve needs the extra "server"; install it with pip install "millstream[server]"')
    given: dict[str, Any] = {"host": host, "port": port, "workers": workers, "backend_only": backend_only or None}
    if reload:
        return _reload(session.settings(**given))
    gc.disable()  # what is imported stays; looking through it for garbage took a sixth of the start
    settings = _first_look(session, app, given)
    if settings is None or not (wants_several(settings) and has_gunicorn()):
        session.take_in(app)
        settings = session.settings(**given)
    if wants_several(settings) and can_be_several(session, settings):
        return Processes(session, app, given).run(settings)
    server = _server(session, settings)

    def say_stopping() -> None:
        session.err.print(f"stopping: what does not end within {settings.drain_grace:g} s is handed on", soft_wrap=True)

    with Interrupts(say_stopping, lambda: None) as interrupts, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(session, server, interrupts))
    return Exit.OK


def _first_look(session: Session, app: str | None, given: Mapping[str, Any]) -> Settings | None:
    """Return the settings before the user's code is loaded; `None` where they are not complete without it.

    With several processes that code is loaded in each of them, and not here: so a reload takes what has changed.
    """
    try:
        return session.settings(**given)
    except SettingsError:
        if app is None:
            raise
        return None


def _server(session: Session, settings: Settings) -> HttpServer:
    from millstream.server.launch import HttpServer  # noqa: PLC0415  FastAPI: --help does without

    check_event_log(settings)
    warn_of_network(session, settings)
    api = assemble(session, settings, lambda line: session.err.print(line, soft_wrap=True), executes=None)
    return HttpServer(api, settings)


async def _serve(session: Session, server: HttpServer, interrupts: Interrupts) -> None:
    def stop() -> None:
        server.should_exit = True

    def ready(url: str) -> None:
        collect_seldom()
        session.err.print(f"✓ millstream is ready at {url}", soft_wrap=True)

    interrupts.stop_by(stop)
    await server.run_until_stopped(ready)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop  # noqa: PLC0415  only the server has it

    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


def _reload(settings: Settings) -> int:
    """Run this command without `--reload` in a process of its own, and start it again when a Python file changes."""
    import watchfiles  # noqa: PLC0415  only this needs it

    if wants_several(settings):
        name = "gunicorn_preload" if settings.workers == 1 else "workers"
        shown = f"{name} = {settings.display(name)} ({settings.sources()[name]})"
        raise WrongUseError(f"--reload is for one process, and {shown}; leave one of the two")

    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    command = shlex.join([sys.executable, "-m", "millstream", *arguments])
    logging.getLogger("watchfiles").setLevel(logging.ERROR)  # the server says itself why it ended
    watchfiles.run_process(".", target=command, target_type="command", watch_filter=watchfiles.PythonFilter())
    return Exit.OK
