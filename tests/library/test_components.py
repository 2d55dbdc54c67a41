"""What the library's tasks look like on a canvas, which of them there are, and the page that lists them."""

import json
from pathlib import Path

import pytest

from millstream import library
from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.registry import Registry
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
from millstream.authoring.registry import Registry

registry = Registry()
found = library.load(registry)
print({component.name for component in found.components} & set(found.missing), sorted(found.missing.items()))
print([name for name in registry.names() if ".web." in name or ".prompt." in name])
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    registry = Registry()
    return Catalogue.of(registry, library.load(registry).components)


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
    ]


def test_loading_the_library_loads_neither_an_http_client_nor_a_template_engine() -> None:
    loading = "from millstream import library; from millstream.authoring.registry import Registry"
    assert modules_after(f"{loading}; library.load(Registry())") & {"httpx", "jinja2"} == set()


def test_the_package_itself_does_not_load_the_library() -> None:
    assert {name for name in modules_after("import millstream.app") if name.startswith("millstream.library")} == set()


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "examples" / "flows").glob("*.json")), ids=str)
def test_an_example_names_components_and_ports_that_there_are(file: Path, catalogue: Catalogue) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))["data"]
    nodes = {node["id"]: catalogue.get(node["data"]["component"]) for node in data["nodes"]}
    for node in data["nodes"]:
        component = nodes[node["id"]]
        assert component is not None
        assert all(component.input(name) for name in node["data"].get("values", ()))
    for edge in data["edges"]:
        source, target = nodes[edge["source"]], nodes[edge["target"]]
        assert source is not None
        assert target is not None
        assert source.output(edge["sourceHandle"]), edge
        assert target.input(edge["targetHandle"]), edge
