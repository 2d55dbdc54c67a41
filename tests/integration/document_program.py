"""A program that submits a document and executes it, until it is killed: `document_program.py <log> <mark>`.

Without arguments the document is of the library's components, and rests in the middle; with them it is of tasks of
`document_tasks`, of which one kills the program. It writes the job's id, and then that the job rests.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from millstream import Millstream, library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.flow import DocumentFlow
from tests.documents import document, node
from tests.integration.document_tasks import CATALOGUE, FLOW_ID

SHOUTING_LATER = document(
    [
        node("in", "ChatInput"),
        node("shout", "TextTransform", operation="upper"),
        node("rest", "Wait", seconds=2),
        node("out", "ChatOutput"),
    ],
    ("in.text", "shout.text"),
    ("shout.result", "rest.value"),
    ("rest.value", "out.input_value"),
)


def deadly(log: str, mark: str) -> dict[str, Any]:
    """Return a document whose second task kills the process that runs it first."""
    return document(
        [
            node("in", "chat_input"),
            node("count", "docs.count", log=log),
            node("die", "docs.die_once", mark=mark),
            node("out", "chat_output"),
        ],
        ("in.text", "count.text"),
        ("count.result", "die.text"),
        ("die.result", "out.value"),
    )


async def main(*places: str) -> None:
    async with Millstream() as app:
        if places:
            flow = DocumentFlow(FLOW_ID, deadly(*places), CATALOGUE)
        else:
            catalogue = Catalogue.of(app.registry, library.load(app.registry).components)
            flow = DocumentFlow(FLOW_ID, SHOUTING_LATER, catalogue)
        job = await app.submit(flow, input_value="hi")
        print(job.id, flush=True)  # noqa: T201  the test reads it
        async for event in job.events():
            if event.type == "waiting":
                print("rests", flush=True)  # noqa: T201  as above
        print("ended", flush=True)  # noqa: T201  so far it must not come


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
