"""The runner of the documentation's examples runs what it says, and notices what fails."""

from pathlib import Path

import pytest

from scripts.check_docs import blocks, failures, server_names

PAGE = """\
# Page

```python
x = 1
```

<!-- not run: needs a server -->
```python
raise SystemExit(3)
```

```text
nothing
```

```console
$ millstream run hello.py \\
    --json
{"state": "succeeded"}
$ ls
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def test_only_python_and_console_blocks_are_taken_and_excuses_are_heard() -> None:
    assert [(b.language, b.line) for b in blocks(PAGE)] == [("python", 4), ("console", 17)]


def test_an_excuse_covers_one_block_only() -> None:
    text = "<!-- not run: slow -->\n```python\na\n```\n\n<!-- a remark -->\n```python\nb\n```\n"
    assert [b.code for b in blocks(text)] == ["b\n"]


def test_a_block_inside_a_list_is_run_as_well() -> None:
    assert [b.code for b in blocks("1. First:\n\n   ```python\n   if x:\n       y\n   ```\n")] == ["if x:\n    y\n"]


def test_of_a_console_block_only_our_commands_are_run_and_continued_lines_are_joined() -> None:
    console = blocks(PAGE)[1]
    assert [command.split() for _, command in console.commands] == [["millstream", "run", "hello.py", "--json"]]


def test_requests_go_to_a_server_of_the_pages_own_and_what_they_answer_can_be_kept(page: Path) -> None:
    start = "```console\n$ millstream serve &\n"
    page.write_text(
        f"{start}$ SAID=$(curl -sf localhost:7860/health)\n$ curl -sf localhost:7860/${{SAID:2:0}}health\n```\n"
    )
    assert failures(page) == []
    page.write_text(f"{start}$ curl -sf localhost:7860/nowhere\n```\n")
    assert len(failures(page)) == 1


def test_the_blocks_of_a_page_share_one_namespace(page: Path) -> None:
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n")
    assert failures(page) == []


def test_a_failing_block_is_reported_with_the_line_of_the_page(page: Path) -> None:
    page.write_text("text\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    (complaint,) = failures(page)
    assert 'document.py", line 8' in complaint


def test_a_block_that_names_a_file_is_saved_and_run_on_its_own(page: Path) -> None:
    page.write_text("```python\n# one.py\nx = 1\n```\n\n```python\nimport one\nassert one.x == 1\n```\n")
    assert failures(page) == []


def test_a_warning_in_an_example_is_a_failure(page: Path) -> None:
    page.write_text("```python\nimport warnings\nwarnings.warn('old', DeprecationWarning)\n```\n")
    assert len(failures(page)) == 1


def test_a_failing_command_is_reported_with_its_line(page: Path) -> None:
    page.write_text("```console\n$ millstream no-such-command\n```\n")
    (complaint,) = failures(page)
    assert complaint.startswith(f"{page}:2:")


BESIDE = """\
```console
$ export NAME=told
$ millstream --help > help &
```

```python
# reads.py
import os, time
from pathlib import Path

assert os.environ["NAME"] == "told"
while not Path("help").exists():
    time.sleep(0.01)
```
"""


def test_variables_hold_for_what_follows_and_a_command_may_go_on_beside_it(page: Path) -> None:
    page.write_text(BESIDE, encoding="utf-8")
    assert failures(page) == []


def test_a_page_with_a_broker_gets_a_private_one(page: Path) -> None:
    told = "```python\nassert 'redis://localhost:6379/1'.rpartition(':')[2] {} '6379/1'\n```\n"
    page.write_text("<!-- runs with: broker -->\n" + told.format("!="), encoding="utf-8")
    assert failures(page) == []
    page.write_text(told.format("=="), encoding="utf-8")
    assert failures(page) == []


def test_the_servers_that_a_page_asks_for_are_named_in_a_comment() -> None:
    assert server_names("<!-- runs with: broker, database -->") == ["broker", "database"]
    assert server_names("It runs with: broker.") == []
