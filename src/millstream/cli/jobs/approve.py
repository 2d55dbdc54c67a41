"""`millstream jobs approve`: says what a job waits to hear."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import typer

from millstream.cli.exits import Exit, WrongUseError
from millstream.cli.jobs.desk import Desk, opened, whole_id
from millstream.cli.jobs.look import OneJob
from millstream.cli.jobs.place import Place
from millstream.cli.options import Debug
from millstream.cli.session import Session
from millstream.cli.spread import spread
from millstream.desk.story import NodeStory
from millstream.model.job import Decision


@dataclass(frozen=True)
class Said:
    """What is said.

    Attributes:
        answer: The answer of an approval, or the result that a node had; JSON.
        repeat: Run the node again.
        fail: Fail the node.
    """

    answer: Annotated[
        str | None, typer.Option("--answer", metavar="JSON", help="The answer (without: true), or the node's result.")
    ] = None
    repeat: Annotated[bool, typer.Option("--repeat", help="To a decision: run the node again.")] = False
    fail: Annotated[bool, typer.Option("--fail", help="To a decision: the node counts as failed.")] = False


@spread
def approve(
    context: typer.Context,
    job: OneJob,
    said: Said,
    place: Place,
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="Where it waits, if in several places.")] = None,
    debug: Debug = False,
) -> Exit:
    """Answer an approval, or decide about a node that must run only once and may have run.

    A decision needs one of --repeat, --answer (it has run, and this was its result) and --fail.
    """
    session = Session.of(context, debug=debug, env_file=place.env_file)
    if (said.answer is not None) + said.repeat + said.fail > 1:
        raise WrongUseError("give only one of --answer, --repeat and --fail")
    asyncio.run(_approve(session, place, job, node, said))
    return Exit.OK


async def _approve(session: Session, place: Place, job: str, path: str | None, said: Said) -> None:
    async with opened(session, place) as desk:
        job_id = await whole_id(desk, job)
        node = await _asking(desk, job_id, path)
        answer = _decision(node, said) if node.reason == "decision" else _answer(node, said)
        if not await desk.approve(job_id, node.path, answer):
            raise WrongUseError(f"node {node.path} of job {job_id} waits no more")
        session.out.print(f"{job_id}  {node.path}  {_words(answer)}", soft_wrap=True)


async def _asking(desk: Desk, job_id: str, path: str | None) -> NodeStory:
    """Return the node that waits, by its path; without a path, the only one.

    Raises:
        WrongUseError: There is none there, or it is not clear which is meant.
    """
    record, story = await desk.look(job_id)
    if record.state.is_final:
        raise WrongUseError(f"job {job_id} waits for nothing: it has ended as {record.state}")
    asking = {node.path: node for node in story.asking()}
    if not asking:
        raise WrongUseError(f"job {job_id} waits for no answer; it is {record.state}")
    if path is None and len(asking) > 1:
        raise WrongUseError(f"job {job_id} waits in several places; name one: {', '.join(asking)}")
    found = next(iter(asking.values())) if path is None else asking.get(path)
    if found is None:
        raise WrongUseError(f"nothing waits at node {path}; job {job_id} waits at {', '.join(asking)}")
    return found


def _answer(node: NodeStory, said: Said) -> Any:
    if said.repeat or said.fail:
        raise WrongUseError(f"node {node.path} waits for an approval: answer it with --answer JSON")
    return True if said.answer is None else _value(said.answer)


def _decision(node: NodeStory, said: Said) -> Decision:
    if said.repeat:
        return Decision("repeat")
    if said.fail:
        return Decision("fail")
    if said.answer is not None:
        return Decision("done", _value(said.answer))
    raise WrongUseError(
        f"node {node.path} must run only once, and the process that ran it died before it could say what became of it. "
        "See whether its effect is there, and say --answer JSON if it is (with the node's result), --repeat to run it "
        "again, or --fail"
    )


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        quoted = msgspec.json.encode(text).decode()
        raise WrongUseError(f"--answer {text} is not JSON ({error}); a text is written '{quoted}'") from None


def _words(answer: Any) -> str:
    match answer:
        case Decision("repeat"):
            return "is run again"
        case Decision("fail"):
            return "counts as failed"
    return "is answered"
