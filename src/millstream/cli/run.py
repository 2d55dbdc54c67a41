"""`millstream run`: run a flow or task, in this process or on workers, and print its result."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition
from millstream.cli import outcome
from millstream.cli.exits import Exit, StoppedError
from millstream.cli.inputs import bind, texts_of
from millstream.cli.interrupts import Interrupts
from millstream.cli.load import Target, find
from millstream.cli.options import AsJson, Debug, EnvFile, Given
from millstream.cli.session import Session
from millstream.cli.streams import stdout_to_stderr
from millstream.cli.values import short_name
from millstream.cli.view import LiveView, LogView

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.authoring.result import Job

_WORKER_SECONDS = 5.0
"""After this a job that no worker has taken is thought to have none."""


def run(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="FILE[:FLOW]", help="A Python file or module, and a flow in it.")],
    given: Given = None,
    as_json: AsJson = False,
    env_file: EnvFile = None,
    debug: Debug = False,
) -> Exit:
    """Run a flow in this process, or on Celery workers where celery_enabled is on, and print its result.

    Without FLOW it is the only flow of the file; a task may be named too. Inputs are JSON or plain text:
    -i sizes='[1, 2]' -i name=Ada.
    """
    session = Session.of(context, debug=debug, env_file=env_file)
    settings = session.settings()
    with stdout_to_stderr() if as_json else nullcontext():
        definition = find(Target.parse(target))
        inputs = bind(definition, texts_of(given or ()))
        view = _view(session, definition, as_json=as_json)
        with Interrupts(view.stopping, view.restore) as interrupts:
            app = session.app(settings, executes=None)
            ended = asyncio.run(_execute(app, definition, inputs, view, interrupts))
    write = outcome.write_json if as_json else outcome.write_text
    write(session, ended)
    return ended.exit


def _view(session: Session, definition: Definition, *, as_json: bool) -> LogView:
    err = session.err
    if as_json or not err.is_terminal or err.is_dumb_terminal:
        return LogView(err, is_debugging=session.is_debugging)
    conducts = isinstance(definition, Flow) and definition.conducts
    return LiveView(short_name(definition.name), is_open_ended=conducts, is_debugging=session.is_debugging)


async def _execute(
    app: Millstream, definition: Definition, inputs: dict[str, Any], view: LogView, interrupts: Interrupts
) -> outcome.Outcome:
    """Submit the job, and follow it to its end.

    Raises:
        StoppedError: A signal came before the job was submitted.
        MillstreamError: The job was refused, or the ledger takes no cancel.
    """
    with view.opened():
        async with app:
            job = await _submit(app, definition, inputs, interrupts)
            following = asyncio.ensure_future(_follow(job, view))
            if app.settings.celery_enabled:
                reminder = asyncio.get_running_loop().call_later(_WORKER_SECONDS, view.remind_of_workers)
                following.add_done_callback(lambda _: reminder.cancel())
            cancels: set[asyncio.Task[None]] = set()
            interrupts.stop_by(lambda: cancels.add(asyncio.ensure_future(_cancel(job, following))))
            await asyncio.wait([following])
            interrupts.stop_by(lambda: None)
            await asyncio.gather(*cancels)
            await following
            return outcome.Outcome(await job.record(), await job.nodes(), interrupts.received)


async def _follow(job: Job, view: LogView) -> None:
    async for event in job.events():
        view.take(event)


async def _cancel(job: Job, following: asyncio.Task[None]) -> None:
    """Cancel a job, as often as it takes to see it end, or to see that the ledger takes nothing.

    Raises:
        LedgerUnavailableError: The ledger does not answer; nobody waits for the job's end any more.
        StorageFullError: It has no room; as above.
    """
    try:
        while not (await job.cancel()).is_final:
            pass
    except BaseException:
        following.cancel()
        raise


async def _submit(app: Millstream, definition: Definition, inputs: dict[str, Any], interrupts: Interrupts) -> Job:
    args, kwargs = definition.inputs.split(inputs)
    submitting = asyncio.ensure_future(app.submit(definition, *args, **kwargs))
    interrupts.stop_by(submitting.cancel)
    try:
        return await submitting
    except asyncio.CancelledError:
        if interrupts.received is None:
            raise
        raise StoppedError(interrupts.received) from None
