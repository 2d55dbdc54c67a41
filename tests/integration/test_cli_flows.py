"""`millstream flows` tells what flows there are and what they look like, and finds what is wrong with them."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.integration.cli_program import millstream

FLOWS = '''
    from millstream import Flow, Millstream, branch, flow, loop, task

    @task
    def load(source: str) -> list: ...

    @task(retries=2)
    def store(rows: list) -> int:
        """Store rows."""

    @task
    def halve(number: int) -> int: ...

    @task
    def is_odd(number: int) -> bool: ...

    @flow(priority=3)
    def etl(source: str = "here", number: int = 24):
        """Load and store.

        And more.
        """
        rows = load(source)
        kept = branch(is_odd(number), lambda: store(rows), lambda: store.options(id="again", join="all_done")(rows))
        halved = loop(halve, number, until=is_odd)
        return [kept, halved, store.map([rows])]

    @flow
    async def agent(question: str):
        return question

    with Flow("nightly") as nightly:
        first = load("a")
        load("b") >> first

    app = Millstream()
'''
BAD = """
    from millstream import flow, task

    @task
    def one(number: int) -> int: ...

    @flow
    def needs(number: int):
        return one(number)

    @flow
    def raises():
        return {}["key"]

    @flow
    def names():
        return [one.options(id="-a")(1), one.options(id="-b")(1)]
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("flows")
    (directory / "shop.py").write_text(dedent(FLOWS).lstrip("\n"), encoding="utf-8")
    (directory / "bad.py").write_text(dedent(BAD).lstrip("\n"), encoding="utf-8")
    return directory


def test_the_list_tells_kind_inputs_and_first_doc_line(work: Path) -> None:
    done = millstream("flows", "list", "shop.py", cwd=work)
    assert done.stdout == dedent(
        """\
        flow         kind       inputs
        shop.etl     draws      source='here', number=24   Load and store.
        shop.agent   conducts   question
        nightly      drawn
        """
    )


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["-A", "shop"], {}),
        (["-A", "shop:app"], {}),
        (["--app", "shop.py"], {}),
        ([], {"MILLSTREAM_IMPORTS": "shop"}),
    ],
)
def test_flows_are_found_by_module_app_file_and_setting(
    work: Path, arguments: list[str], variables: dict[str, str]
) -> None:
    done = millstream("flows", "list", "--json", *arguments, cwd=work, **variables)
    assert [(flow["name"], flow["kind"]) for flow in json.loads(done.stdout)] == [
        ("nightly", "drawn"),
        ("shop.agent", "conducts"),
        ("shop.etl", "draws"),
    ]


def test_a_flow_is_shown_with_its_graph(work: Path) -> None:
    done = millstream("flows", "show", "shop.py:etl", cwd=work)
    head, facts, graph = done.stdout.split("\n\n")
    assert head == "shop.etl\nLoad and store."
    assert [line.split()[0] for line in facts.splitlines()] == [
        "kind",
        "place",
        "version",
        "policy",
        "inputs",
        "number",
    ]
    assert "place     shop.py:16\n" in facts
    assert "policy    priority 3\n" in facts
    assert "inputs    source  str  = 'here'\n          number  int  = 24" in facts
    assert graph == dedent(
        """\
        node          runs          after
        load          task load
        is_odd        task is_odd
          branch      router        is_odd                 true | false
            store     task store    load, branch = true
            again     task store    load, branch = false   join all_done
              merge   merge         store, again           join none_failed_min_one_success
        loop          loop                                 at most 1000 turns
          halve       task halve
            is_odd    task is_odd   halve
          store-2     task store    load                   for each item
        """
    )


def test_a_flow_is_found_by_its_name_in_an_app(work: Path) -> None:
    done = millstream("flows", "show", "etl", "-A", "shop", "-i", "number=7", "--json", cwd=work)
    told = json.loads(done.stdout)
    assert (told["name"], told["place"], told["policy"]) == ("shop.etl", "shop.py:16", {"priority": 3})
    assert told["inputs"][1] == {"name": "number", "type": "int", "default": "24", "required": False}
    assert [node["id"] for node in told["graph"]["nodes"]][:3] == ["load", "is_odd", "branch"]
    assert told["graph"]["nodes"][3]["after"] == [{"node": "load", "when": None}, {"node": "branch", "when": "true"}]


def test_a_flow_that_conducts_has_no_graph_to_show(work: Path) -> None:
    done = millstream("flows", "show", "shop.py:agent", cwd=work)
    assert "inputs    question  str  required\n" in done.stdout
    assert done.stdout.endswith("\nIts graph is made while it runs: the body conducts.\n")


def test_a_flow_that_lacks_inputs_is_shown_with_what_it_needs(work: Path) -> None:
    done = millstream("flows", "show", "bad.py:needs", cwd=work)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "not drawn: it needs -i number=…")


def test_flows_that_can_be_drawn_are_valid(work: Path) -> None:
    done = millstream("flows", "validate", "shop.py", cwd=work)
    assert done.returncode == 0
    assert done.stdout == "✓   shop.etl     8 nodes\n✓   shop.agent   conducts\n✓   nightly      2 nodes\n"


def test_every_problem_of_every_flow_is_told_with_its_place(work: Path) -> None:
    done = millstream("flows", "validate", "bad.py", cwd=work)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == "·   bad.needs    not drawn: it needs -i number=…"
    assert lines[1] == "✗   bad.raises   bad.py:12: the body of flow bad.raises raised KeyError: 'key'"
    assert lines[2].startswith("✗   bad.names    bad.py:14: node ")
    assert lines[3].startswith("                 bad.py:14: node ")


def test_inputs_and_a_name_narrow_down_what_is_validated(work: Path) -> None:
    done = millstream("flows", "validate", "bad.py:needs", "-i", "number=3", "--json", cwd=work)
    assert done.returncode == 0
    assert json.loads(done.stdout) == [
        {"name": "bad.needs", "kind": "draws", "place": "bad.py:6", "nodes": 1, "missing_inputs": [], "problems": []}
    ]


def test_an_input_that_no_flow_takes_is_refused(work: Path) -> None:
    done = millstream("flows", "validate", "bad.py", "-i", "nubmer=3", cwd=work)
    assert (done.returncode, done.stderr) == (2, "millstream: no flow here has an input nubmer\n")
