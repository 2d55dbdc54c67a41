"""Whatever comes as a document is read without running anything of it; what is valid runs without internal errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream import Millstream, task
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.describe import component_of
from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.documents.reading import subflows_in
from millstream.authoring.registry import Registry
from millstream.errors import DocumentError
from millstream.model.component import Port
from millstream.settings import Settings
from tests.integration.document_tasks import FLOW_ID

INNER_ID = "0190d5ae-7c3f-7b1e-9d3f-000000000002"
WATCHED: Final = (
    "exec",
    "compile",
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "pty.spawn",
)


@task(name="fuzz.take")
async def take(input_value: str = "", number: int = 1, **more: Any) -> dict[str, Any]:
    return {"text": input_value, "number": number, "more": sorted(more)}


@task(name="fuzz.pass_on")
async def pass_on(value: Any = None, values: list[Any] | None = None, note: str = "") -> Any:
    return value if values is None else [*values, note]


@task(name="fuzz.choose")
async def choose(value: Any = None, bound: int = 3) -> tuple[str, Any]:
    return ("small" if len(str(value)) <= bound else "big"), value


@task(name="fuzz.is_large")
async def is_large(value: Any = None) -> bool:
    return len(str(value)) > 20


@task(name="fuzz.grow")
async def grow(value: Any = None) -> str:
    return f"{value}"[:30] * 2 + "+"


def catalogue() -> Catalogue:
    registry = Registry()
    for one in (take, pass_on, choose, is_large, grow):
        registry.add(one)
    text, whole = Port(name="text", type="text", path=("text",)), Port(name="message", type="message")
    return Catalogue.of(
        registry,
        [
            component_of(
                take,
                name="take",
                input_type="chat",
                ports={"input_value": {"source": "input_value"}},
                outputs=(whole, text),
            ),
            component_of(pass_on, name="pass", ports={"values": {"is_many": True, "type": "any"}}),
            component_of(pass_on, name="show", output_type="chat"),
            component_of(choose, name="choose", kind="router", outputs=(Port(name="small"), Port(name="big"))),
            component_of(is_large, name="large"),
            component_of(grow, name="grow"),
        ],
    )


CATALOGUE = catalogue()
INNER: Final[dict[str, Any]] = {
    "nodes": [{"id": "i", "data": {"component": "take"}}, {"id": "o", "data": {"component": "show"}}],
    "edges": [{"source": "i", "sourceHandle": "message", "target": "o", "targetHandle": "value"}],
}
FOUND = {INNER_ID: INNER}.get
OUTPUTS: Final[dict[str, tuple[str, ...]]] = {
    "take": ("message", "text"),
    "pass": ("result",),
    "show": ("result",),
    "choose": ("small", "big"),
    "large": ("result",),
    "Merge": ("result",),
    "Wait": ("value",),
    "Subflow": ("result", "outputs"),
    "Loop": ("result", "current"),
}
INPUTS: Final[dict[str, tuple[str, ...]]] = {
    "take": ("input_value", "anything"),
    "pass": ("value", "values"),
    "show": ("value",),
    "choose": ("value",),
    "large": ("value",),
    "Merge": ("values",),
    "Wait": ("value",),
    "Subflow": ("input_value",),
    "Loop": ("value",),
}
VALID: Final[dict[str, dict[str, Any]]] = {
    "Subflow": {"flow": INNER_ID},
    "Merge": {"values": 1},
    "Loop": {"value": 1, "max_turns": 9},
    "Wait": {"seconds": 0.01},
}
VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
NAMES: Final = st.sampled_from(
    [
        "value",
        "input_value",
        "number",
        "note",
        "flow",
        "max_turns",
        "seconds",
        "code",
        "more",
        "__class__",
        "bound",
        "values",
        "a b",
    ]
)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail where something of a document is compiled, run or started meanwhile."""
    _seen.clear()
    _watching.append(True)
    try:
        yield
    finally:
        _watching.pop()
    assert _seen == []


_seen: list[str] = []
_watching: list[bool] = []


def _hear(event: str, _args: tuple[Any, ...]) -> None:
    if _watching and event in WATCHED:
        _seen.append(event)


sys.addaudithook(_hear)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Return a document of the right form; many of them are valid."""
    kinds = draw(st.lists(st.sampled_from(sorted(OUTPUTS)), min_size=1, max_size=7))
    ids = [f"n{index}" for index in range(len(kinds))]
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, str]] = []
    for index, kind in enumerate(kinds):
        nodes.append({"id": ids[index], "data": {"component": kind, "values": dict(VALID.get(kind, {}))}})
        if draw(st.integers(0, 11)) == 0:
            nodes[-1]["data"]["values"] |= draw(st.dictionaries(NAMES, VALUES, max_size=1))
        loops = [ids[at] for at in range(index) if kinds[at] == "Loop"]
        if loops and draw(st.integers(0, 1)) == 1:
            nodes[-1]["parentId"] = draw(st.sampled_from(loops))
        for port in INPUTS[kind]:
            if index and draw(st.integers(0, 2)) > 0:
                at = draw(st.integers(0, len(kinds) - 1 if draw(st.integers(0, 19)) == 0 else index - 1))
                output = draw(st.sampled_from(OUTPUTS[kinds[at]]))
                edges.append({"source": ids[at], "sourceHandle": output, "target": ids[index], "targetHandle": port})
        if kind == "Loop" and draw(st.integers(0, 9)) > 0:
            inside, turn = body(ids[index])
            nodes += inside
            edges += turn
    return {"nodes": nodes, "edges": edges}


def body(loop: str) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return nodes and edges that make a loop whole."""
    grow, ask = f"{loop}g", f"{loop}a"
    nodes = [
        {"id": one, "parentId": loop, "data": {"component": name}} for one, name in ((grow, "grow"), (ask, "large"))
    ]
    ends = [(loop, "current", grow, "value"), (grow, "result", loop, "next"), (grow, "result", ask, "value")]
    ends.append((ask, "result", loop, "done"))
    return nodes, [dict(zip(("source", "sourceHandle", "target", "targetHandle"), one, strict=True)) for one in ends]


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """Return a document in which something was replaced, put in or taken out, anywhere."""
    data: Any = deepcopy(draw(documents()))
    for _ in range(draw(st.integers(1, 3))):
        at: Any = data
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys or draw(st.integers(0, 3)) == 0:
                break
            inner = at[draw(st.sampled_from(keys))]
            if not isinstance(inner, dict | list):
                break
            at = inner
        strange = draw(VALUES | st.sampled_from(ESCAPES))
        if isinstance(at, list):
            at.append(strange)
        elif keys and draw(st.integers(0, 1)) == 1:
            at[draw(st.sampled_from(keys))] = strange
        elif keys and draw(st.integers(0, 1)) == 1:
            del at[draw(st.sampled_from(keys))]
        else:
            at[draw(NAMES | st.sampled_from(ESCAPES))] = strange
    return data


def refused(error: DocumentError) -> bool:
    """Look whether all problems have a place and one line of words, and return that the document was not valid."""
    lines = [where + what for where, what in error.problems if where and what]
    assert 0 < len(lines) == len(error.problems)
    assert not any("\n" in line for line in lines)
    return False


def hold(data: Any, app: Millstream) -> bool:
    """Read a document, and run it where it is valid; return whether it was."""
    with nothing_runs():
        subflows_in(data)
        try:
            flow = DocumentFlow(FLOW_ID, data, CATALOGUE, find=FOUND)
        except DocumentError as error:
            return refused(error)
        flow.draw(flow.inputs.bind((), {"input_value": "hello"}))
    result: Any = app.apply(flow, input_value="hello", throw=False)
    if result.state == "FAILURE":
        assert "max_turns" in str(result.result), result.traceback
    else:
        assert list(result.result) == ["outputs"]
        assert list(result.result["outputs"]) == [output.id for output in flow.outputs]
    return True


@pytest.fixture(scope="module")
def app() -> Millstream:
    app = Millstream(settings=Settings(durability="off"))
    assert hold(INNER, app)  # what is imported late is imported now
    return app


ESCAPES: Final = (
    "__class__",
    "{{constructor}}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{0.__class__.__init__.__globals__}",
    'f\'{__import__("os").system("true")}\'',
    "\\u005f\\u005fimport\\u005f\\u005f",
    "\u005f\u005fimport\u005f\u005f('os')",
    "__import__('os').system('true')",
    'exec("import os")',
    "lambda: 0",
    "${7*7}",
    "%(x)s",
    "!!python/object/apply:os.system ['true']",
    "cos\nsystem\n(S'true'\ntR.",
    "../../etc/passwd",
    "\0",
    "javascript:alert(1)",
    "<img src=x onerror=alert(1)>",
    "builtins:eval",
    "millstream.library.files.file_read",
    "a" * 10_000,
)


def with_text(text: str, place: str) -> dict[str, Any]:
    """Return a document that holds a text at some place of a node or an edge."""
    data: dict[str, Any] = deepcopy(INNER)
    node = data["nodes"][1]
    match place:
        case "id" | "parentId" | "type":
            node[place] = text
        case "component" | "label" | "note" | "code" | "values" | "policy":
            node["data"][place] = text
        case "value" | "flow" | "code value":
            node["data"]["values"] = {place.removesuffix(" value"): text}
        case "policy value":
            node["data"]["policy"] = {"timeout": text}
        case "class" | "key":
            node["data"]["policy"] = {"retry_for" if place == "class" else "idempotency_key": text}
        case "port":
            node["data"]["values"] = {text: 1}
        case "open port":
            data["nodes"][0]["data"]["values"] = {text: 1}
        case "field":
            data[text] = 1
        case _:
            data["edges"][0][place] = text
    return data


PLACES: Final = (
    *(
        "id",
        "parentId",
        "type",
        "component",
        "label",
        "note",
        "code",
        "values",
        "policy",
        "value",
        "flow",
        "code value",
    ),
    *("policy value", "class", "key", "port", "open port", "field", "source", "sourceHandle", "target", "targetHandle"),
)
PLAIN: Final = {"type": 200, "label": 500, "note": 20_000, "value": 1 << 20}
"""Where a text is a plain value, which nobody looks into, and how long it may be there."""


@pytest.mark.parametrize("place", PLACES)
def test_a_text_that_wants_to_be_code_is_a_problem_or_a_plain_value(place: str, app: Millstream) -> None:
    for text in ESCAPES:
        is_valid = hold(with_text(text, place), app)
        assert is_valid == (len(text) <= PLAIN.get(place, -1)), (place, text)


def wrapped(text: str) -> list[str]:
    """Return a text in all that templates, shells and parsers look for."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in text[:100])
    marks = (
        "{{%s}}",
        "{%%%s%%}",
        "${%s}",
        "#{%s}",
        "$(%s)",
        "`%s`",
        "<%%=%s%%>",
        "f'{%s}'",
        "[[%s]]",
        "'+(%s)+'",
        "%s\n#",
    )
    return [text, escaped, *(mark % text for mark in marks)]


def test_five_thousand_such_texts_are_problems_or_plain_values(app: Millstream, working_directory: Path) -> None:
    texts = [
        text
        for one in (*ESCAPES, "open('canary', 'w')", "__import__('os').system('touch canary')")
        for text in wrapped(one)
    ]
    data = [with_text(text, place) for text in texts for place in PLACES]
    assert len(data) > 5_000
    flow = DocumentFlow(FLOW_ID, INNER, CATALOGUE)
    refused = 0
    with nothing_runs():
        for one in data:
            try:
                flow = DocumentFlow(FLOW_ID, one, CATALOGUE, find=FOUND)
            except DocumentError:
                refused += 1
            else:
                flow.draw(flow.inputs.bind((), {}))
        for text in texts:
            assert text in flow.draw(flow.inputs.bind((), {"input_value": text})).bindings
    assert 0 < refused < len(data)
    assert app.apply(flow, input_value="done").get() == {"outputs": {"o": {"text": "done", "number": 1, "more": []}}}
    assert list(working_directory.iterdir()) == []


def test_a_text_that_wants_to_be_code_comes_out_as_it_went_in(app: Millstream) -> None:
    for text in ESCAPES:
        data = {"nodes": [{"id": "o", "data": {"component": "show", "values": {"value": text}}}]}
        assert app.apply(DocumentFlow(FLOW_ID, data, CATALOGUE)).get() == {"outputs": {"o": text}}


def test_documents_that_are_valid_run(app: Millstream) -> None:
    found = []

    @given(data=documents())
    @settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
    def run(data: dict[str, Any]) -> None:
        found.append(hold(data, app))

    run()
    assert sum(found) > len(found) / 10  # else it would hold nothing to much


@given(data=mutants())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_documents_that_are_not_valid_say_why(data: Any, app: Millstream) -> None:
    hold(data, app)


@pytest.mark.matrix
@pytest.mark.timeout(1_200)  # it has much to do, and waits for nothing
@given(data=documents() | mutants())
@settings(max_examples=5_000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_many_documents(data: Any, app: Millstream) -> None:
    hold(data, app)


@given(text=st.text(max_size=60) | st.binary(max_size=60))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_can_come_as_a_document(text: str | bytes, app: Millstream) -> None:
    hold(text, app)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"nodes":[{"data":{"values":{"value":['])
@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
def test_a_document_that_is_too_deep_is_refused_whatever_its_depth(opening: str, depth: int, app: Millstream) -> None:
    head, inner = opening[:-1], opening[-1] if opening[-1] == "[" else opening
    closing = {"[": "]", '{"a":': "}"}[inner]
    text = (head if inner == "[" else "") + inner * depth + "1" + closing * depth
    text += {"": "", '{"nodes":[{"data":{"values":{"value":': "}}}]}"}.get(head, "")
    assert not hold(text, app)


@pytest.mark.parametrize("depth", [65, 100_000])
def test_objects_of_python_that_are_too_deep_are_refused_too(depth: int, app: Millstream) -> None:
    value: Any = 1
    for turn in range(depth):
        value = [value] if turn % 2 else {"a": value}
    data = {"nodes": [{"id": "o", "data": {"component": "show", "values": {"value": value}}}]}
    assert not hold(data, app)
    while isinstance(value, list | dict):  # taken apart by hand: Python's own way is recursive
        value = value[0] if isinstance(value, list) else value["a"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", str(1 << 64), str(-(1 << 70))])
def test_numbers_that_json_or_a_ledger_cannot_hold_are_refused(number: str, app: Millstream) -> None:
    text = json.dumps({"nodes": [{"id": "o", "data": {"component": "show", "values": {"value": "N"}}}]})
    assert not hold(text.replace('"N"', number), app)
    assert not hold(json.loads(text.replace('"N"', number)), app)
