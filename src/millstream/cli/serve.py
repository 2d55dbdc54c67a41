"""`millstream serve`: the HTTP server, in one process, until it is stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.interrupts import Interrupts
from millstream.cli.options import AppOption, Debug, EnvFile
from millstream.cli.session import Session
from millstream.cli.worker import collect_seldom
from millstream.urls import is_loopback

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
    workers: Annotated[int | None, typer.Option(min=1, help="Server processes; this version has one.")] = None,
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
    if reload:
        return _reload()
    gc.disable()  # what is imported stays; looking through it for garbage took a sixth of the start
    session.take_in(app)
    settings = session.settings(host=host, port=port, workers=workers, backend_only=backend_only or None)
    server = _server(session, settings)

    def say_stopping() -> None:
        session.err.print(f"stopping: what does not end within {settings.drain_grace:g} s is handed on", soft_wrap=True)

    with Interrupts(say_stopping, lambda: None) as interrupts, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(session, server, interrupts))
    return Exit.OK


def _server(session: Session, settings: Settings) -> HttpServer:
    from millstream.server.assemble import create_app  # noqa: PLC0415  FastAPI: --help does without
    from millstream.server.launch import HttpServer  # noqa: PLC0415  as above

    program = session.app(settings, executes=None)
    program.registry.adopt(session.known(settings.imports))
    if not is_loopback(settings.host) and not settings.trusted_proxies:
        told = "passwords and tokens can be read on the way; put a proxy with TLS in front, and set trusted_proxies"
        session.complain([f"listening on {settings.host} without TLS: {told}"])
    api = create_app(settings, app=program, say=lambda line: session.err.print(line, soft_wrap=True))
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


def _reload() -> int:
    """Run this command without `--reload` in a process of its own, and start it again when a Python file changes."""
    import watchfiles  # noqa: PLC0415  only this needs it

    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    command = shlex.join([sys.executable, "-m", "millstream", *arguments])
    logging.getLogger("watchfiles").setLevel(logging.ERROR)  # the server says itself why it ended
    watchfiles.run_process(".", target=command, target_type="command", watch_filter=watchfiles.PythonFilter())
    return Exit.OK
