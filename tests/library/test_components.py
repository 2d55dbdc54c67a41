"""What the library's tasks look like on a canvas, which of them there are, and the page that lists them."""

import json
from typing import Any
from uuid import uuid4

import pytest

from millstream import DocumentFlow, Millstream, Settings, library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.reading import read_document
from millstream.authoring.registry import Registry
from millstream.errors import DocumentError
from millstream.model.component import Component
from millstream.model.names import DOCUMENTS
from scripts.components_page import PAGE, page
from tests.unit.test_imports import modules_after, said

USERS_NAMES = {
    "ChatInput",
    "ChatOutput",
    "Concatenate",
    "Condition",
    "FileRead",
    "FileWrite",
    "HttpRequest",
    "HumanApproval",
    "IfElse",
    "JsonFormat",
    "JsonParse",
    "JsonPick",
    "LongRunningTask",
    "Loop",
    "Merge",
    "PromptTemplate",
    "RegexExtract",
    "RegexReplace",
    "Subflow",
    "Switch",
    "TextInput",
    "TextOutput",
    "TextTransform",
    "Wait",
    "Webhook",
}

WITHOUT_EXTRA = """
from millstream import library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.reading import read_document
from millstream.authoring.registry import Registry
from millstream.errors import DocumentError

registry = Registry()
found = library.load(registry)
print({component.name for component in found.components} & set(found.missing), sorted(found.missing.items()))
print([name for name in registry.names() if ".web." in name or ".prompt." in name])
node = {"id": "a", "data": {"component": "PromptTemplate", "values": {"template": ""}}}
try:
    read_document({"nodes": [node], "edges": []}, Catalogue.of(registry, *found))
except DocumentError as error:
    print(*error.problems[0], sep=chr(10))
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    registry = Registry()
    return Catalogue.of(registry, *library.load(registry))


def test_the_components_have_the_names_that_users_know(catalogue: Catalogue) -> None:
    assert {component.name for component in catalogue} == USERS_NAMES


def test_every_component_says_what_an_editor_shows(catalogue: Catalogue) -> None:
    def shown(component: Component) -> bool:
        ports = [*component.inputs, *component.outputs]
        whole = component.title and component.group and component.icon and component.description.endswith(".")
        return bool(whole and all(port.title for port in ports) and component.outputs)

    assert [component.name for component in catalogue if not shown(component)] == []


def test_every_input_of_a_task_is_described(catalogue: Catalogue) -> None:
    inputs = [(one.name, port) for one in catalogue if one.task for port in one.inputs]
    assert [(name, port.name) for name, port in inputs if not port.description] == []


def test_what_is_said_of_an_input_is_said_to_its_end(catalogue: Catalogue) -> None:
    said = {f"{one.name}.{port.name}": port.description for one in catalogue if one.task for port in one.inputs}
    assert [name for name, description in said.items() if not description.endswith(".")] == []
    assert "other signs in brackets and quotes" in said["JsonPick.path"]


def test_a_component_can_be_sent_to_an_editor_as_json(catalogue: Catalogue) -> None:
    for component in catalogue:
        for port in component.inputs:
            assert json.loads(json.dumps(dict(port.schema))) == port.schema


def test_each_task_of_the_library_is_one_component_and_its_jobs_are_taken_up() -> None:
    registry = Registry()
    components = library.load(registry).components
    assert sorted(component.task for component in components) == sorted(registry.names())
    assert DOCUMENTS in registry.claimable()


def test_the_page_lists_the_components_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m scripts.components_page"


def test_what_needs_a_package_that_is_not_there_is_left_out_and_says_which_extra_brings_it() -> None:
    assert said(WITHOUT_EXTRA, hidden={"httpx", "jinja2"}).splitlines() == [
        "set() [('HttpRequest', 'server'), ('PromptTemplate', 'server')]",
        "[]",
        "nodes[0].data.component",
        "PromptTemplate needs packages that are not installed: pip install 'millstream[server]' (node a)",
    ]


def test_loading_the_library_loads_neither_an_http_client_nor_a_template_engine() -> None:
    loading = "from millstream import library; from millstream.authoring.registry import Registry"
    assert modules_after(f"{loading}; library.load(Registry())") & {"httpx", "jinja2"} == set()


def test_the_package_itself_does_not_load_the_library() -> None:
    assert {name for name in modules_after("import millstream.app") if name.startswith("millstream.library")} == set()


@pytest.mark.parametrize("policy", [{"timeout": 21}, {"soft_timeout": 3}, {"timeout": None}, {"run_in": "loop"}])
def test_a_document_cannot_loosen_what_bounds_a_task(policy: dict[str, Any], catalogue: Catalogue) -> None:
    values = {"text": "a", "pattern": "a"}
    node = {"id": "a", "data": {"component": "RegexExtract", "values": values, "policy": policy}}
    with pytest.raises(DocumentError) as caught:
        read_document({"nodes": [node], "edges": []}, catalogue)
    assert [where for where, _ in caught.value.problems] == ["nodes[0].data.policy"]


def test_a_document_can_tighten_what_bounds_a_task(catalogue: Catalogue) -> None:
    node = {
        "id": "a",
        "data": {
            "component": "RegexExtract",
            "values": {"text": "a", "pattern": "a"},
            "policy": {"timeout": 5, "soft_timeout": 1, "retries": 2},
        },
    }
    policy = read_document({"nodes": [node], "edges": []}, catalogue).nodes["a"].policy
    assert policy is not None
    assert (policy.timeout, policy.soft_timeout, policy.run_in) == (5, 1, "process")


async def test_texts_of_several_nodes_are_joined() -> None:
    nodes: list[dict[str, Any]] = [
        {"id": name, "data": {"component": "TextInput", "values": {"input_value": name}}} for name in ("one", "two")
    ]
    nodes.append({"id": "both", "data": {"component": "Concatenate", "values": {"separator": " and "}}})
    edges = [
        {"source": name, "sourceHandle": "text", "target": "both", "targetHandle": "texts"} for name in ("one", "two")
    ]
    assert await result_of({"nodes": nodes, "edges": edges}) == {"both": "one and two"}


@pytest.mark.parametrize(("value", "operator", "other"), [(13, "greater", 12), ([3, 4], "contains", 4)])
async def test_a_document_compares_with_a_number_as_it_stands(value: Any, operator: str, other: Any) -> None:
    values = {"value": value, "operator": operator, "other": other}
    document = {"nodes": [{"id": "a", "data": {"component": "Condition", "values": values}}], "edges": []}
    assert await result_of(document) == {"a": True}


async def result_of(document: dict[str, Any]) -> Any:
    async with Millstream(settings=Settings(durability="off")) as app:
        catalogue = Catalogue.of(app.registry, *library.load(app.registry))
        job = await app.submit(DocumentFlow(str(uuid4()), document, catalogue))
        return (await job.result())["outputs"]
