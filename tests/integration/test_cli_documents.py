"""`millstream flows import`, `export` and `validate`: flow documents between files and the ledger."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from millstream.authoring.documents.structure import SUBFLOW
from millstream.cli.program import main
from tests.integration.cli_program import millstream
from tests.integration.test_cli_users import typed

ECHO: dict[str, Any] = {
    "nodes": [{"id": "in", "data": {"component": "ChatInput"}}, {"id": "out", "data": {"component": "ChatOutput"}}],
    "edges": [{"source": "in", "sourceHandle": "message", "target": "out", "targetHandle": "input_value"}],
}
WRONG: dict[str, Any] = {
    "nodes": [
        {"id": "a", "data": {"component": "NoSuch"}},
        {"id": "b", "data": {"component": "ChatInput", "code": ""}},
    ],
    "edges": [],
}
INNER = "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a ledger that has one user, and files of flows."""
    directory = tmp_path_factory.mktemp("documents")
    written = {
        "echo.json": {"name": "Echo", "description": "Says it again.", "data": ECHO},
        "wrong.json": {"flows": [{"name": "Echo", "data": ECHO}, {"name": "Wrong", "data": WRONG}]},
        "calls.json": {
            "flows": [
                {
                    "name": "Outer",
                    "data": {
                        "nodes": [{"id": "x", "data": {"component": SUBFLOW.name, "values": {"flow": INNER}}}],
                        "edges": [],
                    },
                },
                {"id": INNER, "name": "Inner", "data": ECHO},
            ]
        },
    }
    for name, content in written.items():
        (directory / name).write_text(json.dumps(content), encoding="utf-8")
    done = typed("users", "add", "ada", cwd=directory, text="a long enough password\n")
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def work(made: Path, working_directory: Path) -> Path:
    """A copy of it for one test, which is the working directory."""
    shutil.copytree(made, working_directory, dirs_exist_ok=True)
    return working_directory


def test_what_is_imported_is_exported_again(work: Path) -> None:
    done = millstream("flows", "import", "echo.json", "calls.json", "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert [flow["name"] for flow in kept] == ["Echo", "Outer", "Inner"]
    assert kept[2]["id"] == INNER
    done = millstream("flows", "export", "--to", "out", cwd=work)
    assert done.stdout.split() == ["out/Inner.json", "out/Echo.json", "out/Outer.json"]
    echo = json.loads((work / "out/Echo.json").read_text(encoding="utf-8"))
    assert echo == {
        "id": kept[0]["id"],
        "name": "Echo",
        "description": "Says it again.",
        "endpoint_name": None,
        "data": ECHO,
    }
    done = millstream("flows", "export", "Inner", kept[0]["id"], "--json", cwd=work)
    assert [flow["name"] for flow in json.loads(done.stdout)["flows"]] == ["Inner", "Echo"]


def test_an_archive_is_imported_too(work: Path) -> None:
    with zipfile.ZipFile(work / "all.zip", "w") as archive:
        archive.write(work / "echo.json", "echo.json")
    done = millstream("flows", "import", "all.zip", cwd=work)
    assert (done.returncode, done.stdout.split()[:3]) == (0, ["flow", "id", "Echo"])


def test_nothing_is_imported_where_one_flow_is_wrong_and_every_problem_is_told(work: Path) -> None:
    done = millstream("flows", "import", "wrong.json", cwd=work)
    assert done.returncode == 2
    assert "flows[1].data.nodes[0].data.component: there is no component 'NoSuch'" in done.stderr
    assert "flows[1].data.nodes[1].data.code: flow documents hold no code" in done.stderr
    done = millstream("flows", "export", "--json", cwd=work)
    assert json.loads(done.stdout) == {"flows": []}


def test_documents_are_validated_without_a_ledger(work: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = millstream("flows", "validate", str(work / "wrong.json"), cwd=elsewhere)
    assert done.returncode == 1
    assert done.stdout.split()[:4] == ["✓", "Echo", "2", "nodes"]
    assert "nodes[1].data.code: flow documents hold no code" in done.stdout
    done = millstream("flows", "validate", str(work / "calls.json"), "--json", cwd=elsewhere)
    assert (done.returncode, [check["nodes"] for check in json.loads(done.stdout)]) == (0, [1, 2])
    assert not list(elsewhere.iterdir())


def test_documents_may_name_the_tasks_of_an_app(work: Path) -> None:
    (work / "shop.py").write_text(
        "from millstream import task\n\n@task\ndef shout(text: str) -> str:\n    return text.upper()\n",
        encoding="utf-8",
    )
    document = {"nodes": [{"id": "a", "data": {"component": "shop.shout", "values": {"text": "x"}}}], "edges": []}
    (work / "own.json").write_text(json.dumps({"name": "Own", "data": document}), encoding="utf-8")
    assert millstream("flows", "validate", "own.json", cwd=work).returncode == 1
    for command in ("validate", "import"):
        done = millstream("flows", command, "own.json", "-A", "shop.py", cwd=work)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("import", "missing.json"), "missing.json: No such file"),
        (("import", "echo.json", "--user", "bob"), "there is no user 'bob'"),
        (("export", "NoSuch"), "ada has no flow 'NoSuch'"),
        (("import", "shop.txt"), "shop.txt: document: it is no JSON"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    (work / "shop.txt").write_text("hello", encoding="utf-8")
    code = main(["flows", *arguments])
    said = capsys.readouterr()
    assert (code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert told in said.err


def test_with_several_users_one_has_to_be_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed("users", "add", "bob", cwd=work, text="a long enough password\n")
    assert main(["flows", "import", "echo.json"]) == 2
    assert "(ada, bob)" in capsys.readouterr().err
    assert main(["flows", "import", "echo.json", "--user", "bob"]) == 0
