"""The examples, run as a user runs them, say what is true: each is checked against a count made in another way."""

import ast
import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
import tokenize
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))
TIMEOUT_SECONDS = 200


def run(example: str, *options: str, **inputs: Any) -> subprocess.CompletedProcess[str]:
    given = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in inputs.items()]
    command = [sys.executable, "-m", "millstream", "run", str(ROOT / "examples" / example), *options]
    command += [part for text in given for part in ("-i", text)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


def outcome(example: str, **inputs: Any) -> dict[str, Any]:
    done = run(example, "--json", **inputs)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if told["state"] == "succeeded" else 1), done.stderr
    return told


def result(example: str, **inputs: Any) -> Any:
    told = outcome(example, **inputs)
    assert told["state"] == "succeeded", told["error"]
    return told["result"]


# -------------------------------------------------------------------------------------------------- stdlib_report
def totals(report: str) -> dict[str, int]:
    block = report.partition("\n\n")[0]
    found = re.findall(r"^  (\D+?) +([\d,]+)$", block, re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in found}


def counted(files: list[Path]) -> dict[str, int]:
    """Count with the tokenizer: it knows of no tree."""
    words: Counter[str] = Counter()
    for file in files:
        with file.open("rb") as source:
            words.update(t.string for t in tokenize.tokenize(source.readline) if t.type == tokenize.NAME)
    lines = sum(file.read_bytes().count(b"\n") for file in files)
    return {
        "modules": len(files),
        "lines": lines,
        "functions": words["def"],
        "classes": words["class"],
        "not parsed": 0,
    }


def test_the_report_counts_what_the_tokenizer_counts() -> None:
    root = STDLIB / "asyncio"
    report = result("stdlib_report.py", root=str(root))
    assert totals(report) == counted(list(root.rglob("*.py")))


def test_the_report_is_on_every_module_of_the_standard_library_and_uses_several_processes() -> None:
    done = run("stdlib_report.py", top=3)
    left_out = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    modules = [path for path in STDLIB.rglob("*.py") if left_out.isdisjoint(path.relative_to(STDLIB).parts)]
    assert totals(done.stdout)["modules"] == len(modules) > 500
    processes = re.search(r"by (\d+) process", done.stdout)
    assert processes is not None
    assert int(processes[1]) >= min(2, os.cpu_count() or 1)


def test_the_report_names_what_cannot_be_parsed_and_leaves_out_tests(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "left_out.py").write_text("def f(): pass\n", encoding="utf-8")
    (tmp_path / "good.py").write_text('"""Say so."""\n\ndef f():\n    pass\n', encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (:\n", encoding="utf-8")
    (tmp_path / "nulls.py").write_bytes(b"x = '\0'\n")
    report = result("stdlib_report.py", root=str(tmp_path))
    assert totals(report) == {"modules": 3, "lines": 6, "functions": 1, "classes": 0, "not parsed": 2}
    named = re.findall(r"^  (\w+): (?:SyntaxError|ValueError): ", report, re.MULTILINE)
    assert named == ["broken", "nulls"]
    assert re.search(r"^  documented +50%$", report, re.MULTILINE)


# -------------------------------------------------------------------------------------------------------- etl_csv
GOOD_ROW = re.compile(r"\d+,2025-(?!02-30)\d\d-\d\d,(?!XX)([A-Z]{2}),([a-z]+),([1-9]\d*),(\d+\.\d\d)")


def read_orders(directory: Path) -> tuple[list[re.Match[str]], list[str]]:
    """Return the good rows and the numbers of the bad ones, told apart by a pattern."""
    rows = (directory / "orders.csv").read_text(encoding="utf-8").splitlines()[1:]
    matches = [(row, GOOD_ROW.fullmatch(row)) for row in rows]
    return [match for _, match in matches if match], [row.partition(",")[0] for row, match in matches if not match]


@pytest.mark.parametrize(("threshold", "decision"), [(0.2, "published"), (0.01, "quarantine")])
def test_the_etl_accounts_for_every_row(threshold: float, decision: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    told = result(
        "etl_csv.py", rows=4000, bad_share=0.05, threshold=threshold, out=str(work), piece_bytes=10_000, outages=2
    )
    good, bad = read_orders(work)
    turnover = sum((int(row[3]) * Decimal(row[4]) for row in good), Decimal(0))
    assert (told["rows"], told["good"], told["bad"]) == (4000, len(good), len(bad))
    assert sum(told["reasons"].values()) == len(bad) > 100
    assert Decimal(told["turnover"]) == turnover

    assert told["decision"] == decision
    assert sorted(path.name for path in work.iterdir() if path.is_dir()) == [decision]
    with (work / decision / "bad_rows.csv").open(encoding="utf-8", newline="") as file:
        assert [row["order"] for row in csv.DictReader(file)] == bad
    summary = json.loads((work / decision / "summary.json").read_text(encoding="utf-8"))
    by_country: Counter[str] = Counter()
    for row in good:
        by_country[row[1]] += int(row[3]) * int(row[4].replace(".", ""))
    assert {country: Decimal(amount) * 100 for country, amount in summary["by_country"].items()} == by_country
    assert sum(map(Decimal, summary["by_product"].values())) == turnover == Decimal(summary["turnover"])


def test_the_etl_fails_when_the_other_service_stays_away(tmp_path: Path) -> None:
    told = outcome("etl_csv.py", rows=100, outages=5, out=str(tmp_path))
    assert told["state"] == "failed"
    assert told["error"]["type"] == "etl_csv:ServiceUnavailableError"
    assert told["error"]["node"] == "fetch_countries"
    assert told["error"]["message"] == "503, attempt 5"


# --------------------------------------------------------------------------------------------------------- matrix
def test_a_product_is_summed_up() -> None:
    told = result("matrix.py:matrix", size=30)
    assert (told["count"], told["summary"][0]["result_shape"]) == (1, [30, 30])
    assert told["total_duration"] == told["summary"][0]["duration"] > 0


def test_many_products_are_summed_up_in_order() -> None:
    told = result("matrix.py:bulk", sizes=[20, 5, 10])
    assert told["count"] == 3
    assert [product["size"] for product in told["summary"]] == [20, 5, 10]
    assert [product["result_shape"] for product in told["summary"]] == [[20, 20], [5, 5], [10, 10]]


def test_a_product_of_nothing_fails_with_its_reason() -> None:
    told = outcome("matrix.py:matrix", size=0)
    assert (told["state"], told["error"]["type"], told["error"]["node"]) == (
        "failed",
        "builtins:ValueError",
        "matrix_multiply",
    )


def test_the_products_are_called_as_celery_s_canvas_too() -> None:
    command = [sys.executable, str(ROOT / "examples" / "matrix.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True)
    one, many = map(ast.literal_eval, done.stdout.splitlines())
    assert [product["size"] for product in one["summary"]] == [100]
    assert [product["size"] for product in many["summary"]] == [50, 100]
    assert many["count"] == 2


# ---------------------------------------------------------------------------------------------------------- agent
@pytest.mark.parametrize(
    "expression",
    ["(1 + 2) * (10 - 4) / 4", "2*(3+(4*(5-(6/(7+8)))))", "((1+2)*(3+4))/(5-7) - -2.5", "1/3 - 1/3", "(1+1)*(1+1)"],
)
def test_the_agent_answers_as_python_does(expression: str) -> None:
    exact = re.sub(r"\d+(\.\d+)?", lambda number: f"Fraction('{number[0]}')", expression)
    told = result("agent.py", question=f"What is {expression}?")
    assert Fraction(told["answer"]) == eval(exact)  # noqa: S307  an expression of our own


def test_the_agent_acts_on_all_parts_of_a_step_at_once() -> None:
    told = result("agent.py", question="(1 + 2) * (3 + 4)")
    assert [list(step) for step in told["steps"]] == [["(1 + 2)", "(3 + 4)"], ["r1 * r2"]]


def test_the_agent_has_no_answer_to_what_is_no_sum() -> None:
    told = outcome("agent.py", question="Why?")
    assert (told["state"], told["error"]["node"]) == ("failed", "agent")
    assert "nothing to work out" in told["error"]["message"]
