"""Tasks of a user, and a catalogue of them, for the tests of flow documents."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from millstream import flow, task
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.describe import component_of
from millstream.authoring.registry import Registry
from millstream.model.component import Port
from tests.documents import document, node

FLOW_ID = "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"


@task(name="docs.hear")
async def hear(input_value: str = "", session: str | None = None) -> dict[str, Any]:
    """Take what the job is given."""
    return {"text": input_value, "sender": "user", "session": session}


@task(name="docs.say")
async def say(value: Any) -> Any:
    """Show a value."""
    return value


@task(name="docs.upper")
def upper(text: str) -> str:
    """Write a text in capitals."""
    return text.upper()


@task(name="docs.add")
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@task(name="docs.join")
async def join(parts: list[str], between: str = " ") -> str:
    """Join texts."""
    return between.join(parts)


@task(name="docs.fill")
async def fill(template: str, **values: Any) -> str:
    """Fill values into a text: `%name%` stands for one."""
    for name, value in values.items():
        template = template.replace(f"%{name}%", str(value))
    return template


@task(name="docs.is_long")
async def is_long(text: str, limit: int = 3) -> tuple[str, str]:
    """Choose a way by the length of a text."""
    return ("yes" if len(text) > limit else "no"), text


@task(name="docs.is_over")
async def is_over(value: int, limit: int) -> bool:
    """Say whether a number is over a limit."""
    return value > limit


@task(name="docs.size")
async def size(text: str) -> int:
    """Count the letters of a text."""
    return len(text)


@task(name="docs.fail")
async def fail(message: str = "no") -> str:
    """Fail."""
    raise ValueError(message)


@task(name="docs.die_once")
def die_once(text: str, mark: str) -> str:
    """Kill the process that runs this first."""
    path = Path(mark)
    if not path.exists():
        path.write_text(str(os.getpid()), encoding="ascii")
        os.kill(os.getpid(), signal.SIGKILL)
    return text + "!"


@task(name="docs.count")
def count(text: str, log: str) -> str:
    """Note in a file that it ran."""
    with Path(log).open("a", encoding="ascii") as file:
        file.write("x")
    return text


@flow(name="docs.twice")
def twice(number: int) -> Any:
    """Add a number to itself."""
    return add(number, number)


@flow(name="docs.up_to")
async def up_to(number: int, limit: int = 10) -> int:
    """Add one to a number until it is a limit."""
    while number < limit:
        number = await add(number)
    return number


_REGISTRY = Registry()
for _work in (hear, say, upper, add, join, fill, is_long, is_over, size, fail, die_once, count, twice, up_to):
    _REGISTRY.add(_work)

CATALOGUE = Catalogue.of(
    _REGISTRY,
    [
        component_of(
            hear,
            name="chat_input",
            title="Chat input",
            input_type="chat",
            ports={"input_value": {"source": "input_value"}, "session": {"source": "session"}},
            outputs=(Port(name="message", type="message"), Port(name="text", type="text", path=("text",))),
        ),
        component_of(
            hear,
            name="text_input",
            input_type="text",
            ports={"input_value": {"source": "input_value"}, "session": {"source": "session"}},
        ),
        component_of(say, name="hook", ports={"value": {"source": "payload"}}),
        component_of(join, name="docs.join_many", ports={"parts": {"is_many": True, "type": "text"}}),
        component_of(say, name="chat_output", title="Chat output", output_type="chat"),
        component_of(is_long, kind="router", outputs=(Port(name="yes", type="text"), Port(name="no", type="text"))),
    ],
)


CHAT = document(
    [node("in", "chat_input"), node("shout", "docs.upper"), node("out", "chat_output")],
    ("in.text", "shout.text"),
    ("shout.result", "out.value"),
)
