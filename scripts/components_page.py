"""Write docs/reference/components.md: the components of flow documents, as the catalogue has them.

`components_page.py` writes the page; a test holds it to the catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from msgspec import UNSET

from millstream import library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.registry import Registry
from millstream.model.component import Component, Port

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "components.md"

INTRODUCTION = """\
# Components

What the nodes of a flow document can be. A document names a component by its name, sets values at its inputs, and links
outputs to inputs; it holds no code. The tasks and flows of your own app are components, too: under their registered
names, with an input for each parameter, and `result` as the output.

Types say what passes through a port: `text`, `number`, `boolean`, `data` (an object), `list`, `message` (what somebody
says in a chat: data with `text`, `sender`, `sender_name`, `session_id` and `files`), or `any`. Inputs of type `any`
that are described as texts take a message as its text, and any other value as its JSON form.

`PromptTemplate` and `HttpRequest` need packages of the extra `server`. Templates run in processes of their own and are
stopped after 5 seconds, regular expressions after 2. `HttpRequest` connects to public addresses and to what the setting
[`egress_allow`](settings.md#tasks-of-visual-flows) names; a node whose request is refused fails with
`EgressDeniedError`, whose message begins with `egress-denied`. After a crash a request may be sent a second time. Files
lie below [`files_dir`](settings.md#tasks-of-visual-flows), a directory that all flows of all users share.

Flows that can be sent to the server as they are lie in [`examples/flows`](../../examples/flows).
"""


def page() -> str:
    """Return the page as the catalogue wants it."""
    registry = Registry()
    catalogue = Catalogue.of(registry, *library.load(registry))
    parts = [INTRODUCTION]
    for group, components in groupby(sorted(catalogue, key=lambda one: (one.group, one.name)), lambda one: one.group):
        parts.append(f"\n## {group}\n")
        parts += [line for component in components for line in _told(component)]
    return "".join(parts)


def _told(component: Component) -> Iterator[str]:
    yield f"\n### `{component.name}`\n\n{component.description}\n"
    if component.inputs or component.is_open:
        yield "\n| input | type | default | |\n|---|---|---|---|\n"
        yield from map(_input, component.inputs)
    if component.is_open:
        yield "| any other name | any | | Further inputs: of a template the variables that it names. |\n"
    yield "\n| output | type | |\n|---|---|---|\n"
    for port in component.outputs:
        yield f"| `{port.name}` | {port.type} | {_described(port)} |\n"


def _input(port: Port) -> str:
    default = "required" if port.is_required else "" if port.default is UNSET else f"`{json.dumps(port.default)}`"
    choices = port.schema.get("enum", ())
    told = _described(port) + (f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "")
    return f"| `{port.name}` | {port.type}{', several edges' if port.is_many else ''} | {default} | {told} |\n"


def _described(port: Port) -> str:
    inner = "Linked with the nodes inside. " if port.is_inner else ""
    return inner + (port.description or port.title).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
