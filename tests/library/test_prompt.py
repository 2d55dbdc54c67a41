"""Templates are filled in a sandbox: they see the values they are given, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millstream.library.chat import chat_input
from millstream.library.prompt import prompt_template


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("", {}, ""),
        ("Hello {{ name }}!\n", {"name": "Ada"}, "Hello Ada!\n"),
        ("{% for row in rows %}{{ row.name }};{% endfor %}", {"rows": [{"name": "a"}, {"name": "b"}]}, "a;b;"),
        ("{{ a | upper }}{{ b | default('-') }}", {"a": "x"}, "X-"),
        ("{{ html }}", {"html": "<b>&"}, "<b>&"),
        ("{{ template }}{{ x }}", {"x": "{{ y }}", "y": 1}, None),
        ("{{ 1 if a else 2 }}", {"a": False}, "2"),
    ],
)
def test_a_template_gives_text(template: str, values: dict[str, Any], text: str | None) -> None:
    if text is None:  # `template` is the template's own input, and no variable of it
        with pytest.raises(ValueError, match="'template' is undefined"):
            prompt_template(template, **values)
    else:
        assert prompt_template(template, **values) == text


def test_a_message_stands_for_its_text() -> None:
    assert prompt_template("{{ said }}", said=chat_input("hello")) == "hello"


def test_values_are_never_read_as_templates() -> None:
    assert prompt_template("{{ a }}", a="{{ 7 * 7 }}") == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ name }}", "'name' is undefined"),
        ("{{ name", "line 1"),
        ("a\n{% if %}", "line 2"),
        ("{% include 'x' %}", "no other templates"),
        ("{% import '/etc/passwd' as x %}", "no other templates"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),
        ("{{ x.__class__ }}", "unsafe|undefined"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ x['__class__'] }}", "unsafe|undefined"),
        ("{{ x | attr('__class__') }}", "unsafe|undefined"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ self.__init__.__globals__ }}", "unsafe"),
        ("{{ '{0.__class__}'.format(x) }}", "unsafe"),
        ("{{ ('{0.__class__}' | attr('format'))(x) }}", "unsafe|undefined"),
        ("{{ range(999999999) }}", "Range too big|too big"),
        ("{{ rows.append(1) }}", "unsafe|not safely"),
    ],
)
def test_what_the_sandbox_refuses_is_told(template: str, problem: str) -> None:
    with pytest.raises((ValueError, OverflowError), match=problem):
        prompt_template(template, x=1, rows=[1])


def test_of_five_thousand_ways_out_none_leads_out(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.library.escapes"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        program, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5084 False []\n"
    assert list(tmp_path.iterdir()) == []
