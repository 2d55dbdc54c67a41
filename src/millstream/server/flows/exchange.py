"""Flows as files: what leaves a server has no secrets in it, and what comes in is checked like anything else.

A file has one flow, or `{"flows": […]}`; several flows leave in one zip archive with a file for each. Names of files
are never used as paths.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.structure import SUBFLOW
from millstream.clock import new_id
from millstream.errors import DocumentError
from millstream.ledger.flow_store import StoredFlow
from millstream.server.flows.shapes import NewFlow

MOST_FLOWS: Final = 1000
MOST_BYTES: Final = 32 << 20
"""Of all the flows that come in or leave at once, when they are not packed."""

_UNSAFE: Final = re.compile(r"[^\w .()-]+")


# ---------------------------------------------------------------------------------------------------------- leaving
def as_file(flow: StoredFlow, catalogue: Catalogue) -> dict[str, Any]:
    """Return a flow as a file has it: what makes it the same flow elsewhere, without the values of secret ports."""
    return {
        "id": flow.id,
        "name": flow.name,
        "description": flow.description,
        "endpoint_name": flow.endpoint_name,
        "data": _without_secrets(flow.data, catalogue),
    }


def packed(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip archive of flows; takes what `named_files` takes."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in named_files(files):
            opened.writestr(name, content)
    return archive.getvalue()


def named_files(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of flows under names of their own.

    Args:
        files: Of each flow its name and its file's content.

    Example:
        >>> [name for name, _ in named_files([("a/b", b""), ("a_b", b"")])]
        ['a_b.json', 'a_b (1).json']
    """
    names = set[str]()
    for flow, content in files:
        name = next(name for name in _file_names(flow) if name not in names)
        names.add(name)
        yield name, content


def laid_out(content: Mapping[str, Any]) -> bytes:
    """Return a file's content as JSON that people and version control can read."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def file_stem(name: str) -> str:
    """Return the name of a flow as the name of a file, without its ending.

    >>> file_stem("../Sums & more: part 2")
    'Sums _ more_ part 2'
    """
    return _UNSAFE.sub("_", name).strip("._ ")[:100] or "flow"


def _file_names(name: str) -> Iterator[str]:
    stem = file_stem(name)
    yield f"{stem}.json"
    yield from (f"{stem} ({n}).json" for n in range(1, MOST_FLOWS + 1))


def _without_secrets(data: Mapping[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    return {**data, "nodes": [_node_without_secrets(node, catalogue) for node in data.get("nodes", ())]}


def _node_without_secrets(node: Mapping[str, Any], catalogue: Catalogue) -> Mapping[str, Any]:
    content = node["data"]
    component = catalogue.get(content["component"])
    secret = {port.name for port in component.inputs if port.is_secret} if component else set()
    values = content.get("values", {})
    if secret.isdisjoint(values):
        return node
    kept = {name: value for name, value in values.items() if name not in secret}
    return {**node, "data": {**content, "values": kept}}


# -------------------------------------------------------------------------------------------------------- coming in
def flows_in(files: Sequence[tuple[str, bytes]], parse: Callable[[bytes, str], Any]) -> list[NewFlow]:
    """Return the flows that are in files, their documents not checked yet.

    Args:
        files: Of each its name, for messages, and its content: JSON, or a zip archive of such files.
        parse: Reads the JSON of a file, whose name it is given for messages.

    Raises:
        DocumentError: A file is neither, is too large, or has something else in it than flows; all of them are named.
        Exception: What `parse` raises.
    """
    problems: list[tuple[str, str]] = []
    found: list[NewFlow] = []
    for name, content in _unpacked(files):
        try:
            value = parse(content, name)
        except DocumentError as error:
            raise DocumentError([(f"{name}: {where}", what) for where, what in error.problems]) from None
        several = value.get("flows") if isinstance(value, dict) and "flows" in value else [value]
        for n, flow in enumerate(several if isinstance(several, list) else [several]):
            try:
                found.append(NewFlow.model_validate(flow))
            except ValidationError as error:
                where = f"{name}:flows[{n}]" if flow is not value else name
                problems += [
                    (".".join([where, *map(str, wrong["loc"])]), wrong["msg"])
                    for wrong in error.errors(include_url=False, include_input=False)
                ]
    if not problems and not 0 < len(found) <= MOST_FLOWS:
        problems.append(("files", f"they have {len(found)} flows; there have to be 1 to {MOST_FLOWS}"))
    if problems:
        raise DocumentError(problems)
    return found


def with_free_ids(flows: Sequence[StoredFlow], taken: Collection[str]) -> list[StoredFlow]:
    """Return flows that came in together under ids that are free; those that run another of them still do.

    Args:
        flows: The flows.
        taken: Those of their ids that are taken already.
    """
    seen, new = set(taken), dict[str, str]()
    ids = []
    for flow in flows:
        ids.append(flow.id if flow.id not in seen else new.setdefault(flow.id, new_id()))
        seen.add(flow.id)
    return [replace(flow, id=flow_id, data=_calling(flow.data, new)) for flow, flow_id in zip(flows, ids, strict=True)]


def _calling(data: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    nodes = data.get("nodes")
    return {**data, "nodes": [_with_new_subflow(node, new) for node in nodes]} if isinstance(nodes, list) else {**data}


def _with_new_subflow(node: Any, new: Mapping[str, str]) -> Any:
    match node:
        case {"data": {"component": SUBFLOW.name, "values": {"flow": str(called)} as values} as content} if (
            called in new
        ):
            return {**node, "data": {**content, "values": {**values, "flow": new[called]}}}
    return node


def _unpacked(files: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    room = MOST_BYTES
    for name, content in files:
        if not content.startswith(b"PK\x03\x04"):
            yield name, content
            continue
        try:
            with zipfile.ZipFile(BytesIO(content)) as archive:
                for entry in _entries(archive, name):
                    with archive.open(entry) as packed_file:
                        inner = packed_file.read(room + 1)  # what the archive says of sizes may be wrong
                    room -= len(inner)
                    if room < 0:
                        raise DocumentError([(name, f"unpacked, it has more than {MOST_BYTES} bytes")])
                    yield f"{name}/{entry.filename}", inner
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
            raise DocumentError([(name, f"this archive cannot be read: {error}")]) from None


def _entries(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
    if len(entries) > MOST_FLOWS:
        raise DocumentError([(name, f"it has {len(entries)} files; {MOST_FLOWS} are taken at most")])
    return entries
