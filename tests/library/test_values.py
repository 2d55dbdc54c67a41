"""The tasks on texts and JSON, the routers, and where chats enter and leave: plain functions of their values."""

import doctest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millstream import Millstream, Settings
from millstream.errors import EgressDeniedError, OutputTooLargeError
from millstream.library import chat, directory, egress, example, json_values, logic, patterns, prompt, text, values
from millstream.library.chat import chat_input, chat_output, text_input, text_output, webhook
from millstream.library.files import file_read, file_write
from millstream.library.json_values import json_format, json_parse, json_pick
from millstream.library.logic import Operator, condition, if_else, switch
from millstream.library.patterns import regex_extract, regex_replace
from millstream.library.prompt import prompt_template
from millstream.library.text import concatenate, text_transform
from millstream.library.values import MOST_PARTS, MOST_TEXT
from millstream.library.web import http_request

MESSAGE = {"text": "Hi", "sender": "User", "sender_name": "Ada", "session_id": "s", "files": []}


@pytest.mark.parametrize(
    "module", [chat, directory, egress, example, json_values, logic, patterns, prompt, text, values]
)
def test_the_examples_of_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


# -------------------------------------------------------------------------------------------------------- texts
@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        ({"text": "  a \n", "operation": "trim"}, "a"),
        ({"text": "straße", "operation": "upper"}, "STRASSE"),
        ({"text": "ABC", "operation": "lower"}, "abc"),
        ({"text": "one two", "operation": "title"}, "One Two"),
        ({"text": "aXbX", "operation": "replace", "find": "X", "replacement": "--"}, "a--b--"),
        ({"text": "a,b,,c", "operation": "split"}, ["a", "b", "", "c"]),
        ({"text": " a  b ", "operation": "split", "separator": ""}, ["a", "b"]),
        ({"text": ["a", 1, MESSAGE], "operation": "join", "separator": "-"}, "a-1-Hi"),
        ({"text": "abcdef", "operation": "slice", "start": 1, "end": -1}, "bcde"),
        ({"text": "äöü", "operation": "length"}, 3),
        ({"text": MESSAGE, "operation": "upper"}, "HI"),
        ({"text": {"a": [1, None]}, "operation": "trim"}, '{"a":[1,null]}'),
        ({"text": None, "operation": "length"}, 0),
        ({"text": True, "operation": "upper"}, "TRUE"),
    ],
)
def test_a_text_is_transformed(inputs: dict[str, Any], result: Any) -> None:
    assert text_transform(**inputs) == result


@pytest.mark.parametrize(
    ("inputs", "error", "problem"),
    [
        ({"text": "a", "operation": "explode"}, ValueError, "'explode'"),
        ({"text": "a", "operation": "replace"}, ValueError, "find is empty"),
        ({"text": "a", "operation": "join"}, TypeError, "a list of texts, not a str"),
        ({"text": object(), "operation": "trim"}, TypeError, "object"),
    ],
)
def test_what_cannot_be_transformed_is_told(inputs: dict[str, Any], error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        text_transform(**inputs)


def test_no_text_grows_without_measure() -> None:
    long = "ß" * (MOST_TEXT - 1)
    for inputs in (
        {"text": long, "operation": "upper"},
        {"text": long, "operation": "replace", "find": "ß", "replacement": "x" * (1 << 20)},
        {"text": [long, "xx"], "operation": "join", "separator": ""},
        {"text": [""] * 100, "operation": "join", "separator": long},
        {"text": long + "xx", "operation": "trim"},
    ):
        with pytest.raises(OutputTooLargeError, match="10,485,760"):
            text_transform(**inputs)
    assert text_transform(text=long + "x", operation="trim") == long + "x"


def test_no_text_falls_into_more_parts_than_there_may_be() -> None:
    assert len(text_transform("," * (MOST_PARTS - 1), "split")) == MOST_PARTS
    assert len(regex_extract("a" * MOST_PARTS, "a", matches="all")) == MOST_PARTS
    for separator in (",", ""):
        with pytest.raises(OutputTooLargeError, match="100,000"):
            text_transform(", a" * (MOST_PARTS + 1), "split", separator=separator)
    with pytest.raises(OutputTooLargeError, match="100,000"):
        regex_extract("a" * (MOST_PARTS + 1), "a", matches="all")


def test_texts_are_concatenated_in_order() -> None:
    assert concatenate(["a", MESSAGE, 3]) == "a\nHi\n3"
    assert concatenate([]) == ""


@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        ({"pattern": r"\d+"}, "17"),
        ({"pattern": r"\d+", "matches": "all"}, ["17", "18"]),
        ({"pattern": r"(?P<word>[a-z]+) (\d+)", "group": "word"}, "order"),
        ({"pattern": r"(?P<word>[a-z]+) (\d+)", "group": "2", "matches": "all"}, ["17", "18"]),
        ({"pattern": "none", "default": "-"}, "-"),
        ({"pattern": "none", "matches": "all"}, []),
        ({"pattern": "ORDER", "ignore_case": True}, "order"),
        ({"pattern": "(x)?17", "group": "1"}, ""),
        ({"pattern": r"(?<=order )\d+(?!8)"}, "17"),
    ],
)
def test_what_matches_is_extracted(inputs: dict[str, Any], result: Any) -> None:
    assert regex_extract("order 17, order 18", **inputs) == result


def test_what_matches_is_replaced() -> None:
    assert regex_replace("a1b22", r"\d+", "#") == "a#b#"
    assert regex_replace("a1b22", r"\d+", "#", 1) == "a#b22"
    assert regex_replace("Ada Lovelace", r"(?P<first>\w+) (\w+)", r"\2, \g<first>") == "Lovelace, Ada"


@pytest.mark.parametrize("replacement", [r"\2", r"\g<name>", "\\"])
def test_a_replacement_that_does_not_fit_is_told(replacement: str) -> None:
    with pytest.raises(ValueError, match="does not fit the pattern"):
        regex_replace("a", "(a)", replacement)
    with pytest.raises(ValueError, match="has no group '3'"):
        regex_extract("a", "(a)", "3")


# --------------------------------------------------------------------------------------------------------- JSON
@pytest.mark.parametrize("broken", ["", "{", "NaN", '{"a": 1,}', "[" * 100_000, '"\\ud800"', "1e999"])
def test_what_is_no_json_is_told(broken: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        json_parse(broken)


def test_json_is_written_as_wanted() -> None:
    assert json_format({"b": [1], "a": None}) == '{\n  "b": [\n    1\n  ],\n  "a": null\n}'
    assert json_format({"b": [1], "a": None}, 0, is_sorted=True) == '{"a":null,"b":[1]}'
    with pytest.raises(ValueError, match="indent is 9"):
        json_format({}, 9)


@pytest.mark.parametrize(
    ("path", "picked"),
    [
        ("", {"rows": [{"first name": "Ada"}, {"a.b": {'"': 1}}]}),
        ("rows[0]", {"first name": "Ada"}),
        ('rows[0]["first name"]', "Ada"),
        ("rows[-1]", {"a.b": {'"': 1}}),
        (r'["rows"][1]["a.b"]["\""]', 1),
        ("rows[0].first name", "Ada"),
    ],
)
def test_a_value_is_picked_by_its_path(path: str, picked: Any) -> None:
    assert json_pick({"rows": [{"first name": "Ada"}, {"a.b": {'"': 1}}]}, path) == picked


@pytest.mark.parametrize("path", ["a", "[0]", "rows[5]", "rows.a", "rows.append", "__class__", "rows.__class__"])
def test_a_value_that_is_not_there_is_told_or_replaced(path: str) -> None:
    with pytest.raises(LookupError, match="nothing at"):
        json_pick({"rows": [1]}, path)
    assert json_pick({"rows": [1]}, path, "none", is_required=False) == "none"


@pytest.mark.parametrize("path", [".a", "a..b", "a[", "a[x]", "a]", 'a["', "[1:2]", "[]", "a."])
def test_a_path_that_cannot_be_read_is_told(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be read from"):
        json_pick({"a": 1}, path)


# ------------------------------------------------------------------------------------------------------ routers
@pytest.mark.parametrize(
    ("value", "operator", "other", "holds"),
    [
        ("a", "equals", "a", True),
        ("a", "equals", "A", False),
        (1, "equals", "1", True),
        (MESSAGE, "equals", "Hi", True),
        ("a", "not equals", "b", True),
        ("hello", "contains", "ell", True),
        (["a", 2], "contains", "2", True),
        (["ab"], "contains", "a", False),
        ("hello", "not contains", "x", True),
        (["a"], "not contains", "a", False),
        ("hello", "starts with", "he", True),
        ("hello", "ends with", "lo", True),
        ("order 17", "matches regex", r"\d{2}", True),
        ("order 17", "matches regex", r"^\d", False),
        (2, "less", "10", True),
        ("2", "less", "10", True),
        (2, "less or equal", 2, True),
        (3.5, "greater", "3", True),
        (10**400, "greater", "3", True),
        ("3", "greater or equal", 4, False),
        ("", "is empty", "", True),
        (None, "is empty", "", True),
        ([], "is empty", "", True),
        ({}, "is empty", "", True),
        (0, "is empty", "", False),
        ("yes", "is true", "", True),
        (" False ", "is true", "", False),
        (0, "is true", "", False),
        (None, "is true", "", False),
        ({"a": 1}, "is true", "", True),
    ],
)
def test_a_condition_chooses_the_way(value: Any, operator: Any, other: Any, holds: bool) -> None:  # noqa: FBT001  a case
    assert condition(value, operator, other) is holds
    assert if_else(value, operator, other) == ("true" if holds else "false", value)


def test_upper_and_lower_case_can_be_the_same() -> None:
    cases: list[tuple[Operator, str]] = [("equals", "STRASSE"), ("contains", "RAS"), ("matches regex", "STRA")]
    for operator, other in cases:
        assert if_else("Straße", operator, other, ignore_case=True)[0] == "true"
    assert if_else(["A"], "contains", "a", ignore_case=True)[0] == "true"


@pytest.mark.parametrize(
    ("value", "operator", "other", "problem"),
    [
        ("a", "less", 1, "'a' is no number"),
        (1, "greater", "", "'' is no number"),
        (float("nan"), "less", 1, "nan"),
        ("a", "is odd", "", "'is odd'"),
        ("a", "matches regex", "(", "the pattern"),
    ],
)
def test_what_cannot_be_compared_is_told(value: Any, operator: Any, other: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        if_else(value, operator, other)


def test_a_switch_takes_the_first_case_that_is_equal() -> None:
    assert switch("b", case_1="a", case_3="b", case_4="b") == ("case_3", "b")
    assert switch(MESSAGE, case_1="hi", ignore_case=True) == ("case_1", MESSAGE)
    assert switch("x", case_1="a") == ("default", "x")
    assert switch("", case_2="") == ("case_2", "")


# -------------------------------------------------------------------------------------------------------- chats
def test_a_message_says_what_was_said_by_whom_and_where() -> None:
    assert chat_input("hello", "User", "Ada", "s1", ["a.png"]) == {
        "text": "hello",
        "sender": "User",
        "sender_name": "Ada",
        "session_id": "s1",
        "files": ["a.png"],
    }


def test_what_is_said_in_answer_to_a_message_stays_in_its_chat() -> None:
    said = chat_output(chat_input("hello", session_id="s1"))
    assert said == {"text": "hello", "sender": "Machine", "sender_name": "AI", "session_id": "s1", "files": []}
    assert chat_output(chat_input("hello", session_id="s1"), session_id="s2")["session_id"] == "s2"
    assert chat_output([1, "a"])["text"] == '[1,"a"]'


async def test_wherever_a_text_is_wanted_a_message_stands_for_its_text(tmp_path: Path) -> None:
    def message(text: str) -> Any:  # an edge of type `any` may bring one
        return chat_input(text)

    (tmp_path / "a.txt").write_text("content", encoding="utf-8")
    assert regex_extract("abc", message("b")) == "b"
    assert regex_replace("abc", message("b")) == "ac"
    assert condition("abc", "matches regex", message("^a"))
    assert prompt_template(message("Hello {{ name }}"), name=message("Ada")) == "Hello Ada"
    async with Millstream(settings=Settings(durability="off", files_dir=tmp_path)) as app:
        assert await (await app.submit(file_read, message("a.txt"))).result() == "content"
        await (await app.submit(file_write, message("b.txt"), message("text"))).result()
        with pytest.raises(EgressDeniedError):
            await (await app.submit(http_request, message("http://127.0.0.1/"))).result()
    assert (tmp_path / "b.txt").read_text(encoding="utf-8") == "text"


async def test_without_a_session_the_job_is_the_chat() -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        for work in (chat_input, chat_output):
            job = await app.submit(work, "hello")
            assert (await job.result())["session_id"] == job.id


def test_texts_and_webhooks_pass_on_what_they_are_given() -> None:
    assert text_input("a") == "a"
    assert text_output(chat_input("a")) == "a"
    assert webhook({"order": 17}) == {"order": 17}
