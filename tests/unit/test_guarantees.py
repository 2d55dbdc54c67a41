"""docs/explain/guarantees.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_promise_is_held_by_tests_that_exist() -> None:
    page = (ROOT / "docs" / "explain" / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src" / "millstream" / "testing").rglob("*.py")]
    there = {name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))}
    assert named
    assert sorted(named - there) == []
