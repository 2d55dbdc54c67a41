"""What is kept of an exception leaves the process as plain data, and is raised again as its own class if possible."""

import asyncio
import sys
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import GraphError, JobNotFoundError, Retry, Skip, TaskError
from millstream.model.failure import Failure, record_failure


def sent(error: BaseException, node: str | None = None) -> Failure:
    """Return a failure as another process reads it."""
    return msgspec.json.decode(msgspec.json.encode(record_failure(error, node)), type=Failure)


def raised(error: BaseException) -> BaseException:
    """Return an exception as it looks when it was really raised, as another one's consequence."""
    with pytest.raises(type(error)) as caught:
        raise error from LookupError("the first cause")
    return caught.value


class ImportedError(Exception):
    """A user's error, at hand wherever its module is."""


class TwoArgumentsError(Exception):
    """Cannot be made of its one argument."""

    def __init__(self, order: int, why: str) -> None:
        super().__init__(f"order {order}: {why}")


class PrefixError(Exception):
    """Would say everything twice if it were made of its own message."""

    def __init__(self, code: str) -> None:
        super().__init__(f"code {code}")


class BrokenConstructorError(Exception):
    """Fails to be made a second time."""

    def __init__(self, *_: Any, first: bool = False) -> None:
        if not first:
            raise RuntimeError("never again")
        super().__init__("made once")


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


# ------------------------------------------------------------------------------------- of its own class again
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no rows"),
        ValueError(),
        ValueError("a", 2, None, 0.5),
        KeyError("x"),
        ZeroDivisionError("division by zero"),
        FileNotFoundError(2, "No such file or directory", "/data/rows.csv"),
        OSError(18, "Invalid link", "a", None, "b"),
        TimeoutError(),
        StopIteration(3),
        ImportedError("shop is closed", 3),
        JobNotFoundError("no job 7"),
        Skip("not today"),
        asyncio.CancelledError("stop"),
    ],
    ids=repr,
)
def test_a_class_that_is_at_hand_is_raised_again_with_its_arguments(error: BaseException) -> None:
    again = sent(raised(error)).to_exception()
    assert type(again) is type(error)
    assert again.args == error.args
    assert str(again) == str(error)


def test_a_file_that_was_not_found_is_still_named() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nowhere/rows.csv").read_text(encoding="utf-8")
    again = sent(caught.value).to_exception()
    assert isinstance(again, FileNotFoundError)
    assert again.filename == "/nowhere/rows.csv"


def test_of_arguments_that_are_no_plain_values_the_message_is_kept() -> None:
    again = sent(ValueError({"rows": object}, 2)).to_exception()
    assert type(again) is ValueError
    assert str(again) == str(ValueError({"rows": object}, 2))
    assert isinstance(sent(KeyError((1, 2))).to_exception(), KeyError)


def test_a_class_that_inherits_from_a_plain_value_is_not_taken_for_one() -> None:
    class Money(int):
        def __str__(self) -> str:
            return "3 EUR"

    assert sent(ValueError(Money(3))).args == ("3 EUR",)


# -------------------------------------------------------------------------------------------- as a TaskError
def local_error() -> Exception:
    class LocalError(Exception):
        pass

    return LocalError("nobody can import me")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (local_error(), "LocalError: nobody can import me"),
        (TwoArgumentsError(7, "sold out"), "TwoArgumentsError: order 7: sold out"),
        (PrefixError("7"), "PrefixError: code 7"),
        (BrokenConstructorError(first=True), "BrokenConstructorError: made once"),
        (GraphError(["a is wrong", "b too"]), "GraphError: a is wrong; b too"),
        (ExceptionGroup("two", [ValueError(), KeyError()]), "ExceptionGroup: two (2 sub-exceptions)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), "UnicodeDecodeError: 'utf-8' codec can't decode byte"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_cannot_be_made_again_is_a_task_error_that_names_the_class(error: Exception, says: str) -> None:
    again = sent(raised(error)).to_exception()
    assert type(again) is TaskError
    assert str(again).startswith(says)


def test_a_class_of_a_module_that_is_not_imported_here_is_not_imported_for_it() -> None:
    failure = Failure(type="wave:Error", message="no wave")
    kept = sys.modules.pop("wave", None)
    try:
        assert str(failure.to_exception()) == "Error: no wave"
        assert "wave" not in sys.modules
    finally:
        if kept is not None:
            sys.modules["wave"] = kept


@pytest.mark.parametrize(
    "name", ["builtins:print", "builtins:object", "sys:modules", "builtins:nothing", "builtins", "", ":"]
)
def test_a_name_that_is_no_exception_is_never_called(name: str) -> None:
    assert type(Failure(type=name, message="m").to_exception()) is TaskError


def test_a_class_whose_module_was_replaced_by_something_else_is_not_taken() -> None:
    sys.modules["gone_shop"] = types.SimpleNamespace(ClosedError=lambda *_: 1 / 0)  # type: ignore[assignment]
    try:
        assert type(Failure(type="gone_shop:ClosedError", message="m").to_exception()) is TaskError
    finally:
        del sys.modules["gone_shop"]


# ---------------------------------------------------------------------------------------------- what is kept
def test_the_traceback_of_where_it_happened_is_kept_with_its_causes_and_shown_as_a_note() -> None:
    failure = sent(raised(ValueError("no rows")), node="report/join")
    assert failure.node == "report/join"
    assert "the first cause" in failure.traceback
    assert "in raised" in failure.traceback
    assert failure.to_exception().__notes__ == [f"Raised in node report/join:\n{failure.traceback}"]


def test_a_failure_of_the_job_itself_says_so() -> None:
    assert Failure(type="builtins:ValueError", message="m").to_exception().__notes__ == ["Raised in the job"]


def test_ancestors_are_the_classes_that_a_retry_may_name_the_own_one_first() -> None:
    assert sent(FileNotFoundError("x")).ancestors == (
        "builtins:FileNotFoundError",
        "builtins:OSError",
        "builtins:Exception",
        "builtins:BaseException",
    )


def test_the_short_name_is_the_class_alone_wherever_it_was_defined() -> None:
    assert sent(ValueError()).short_type == "ValueError"
    assert sent(local_error()).short_type == "LocalError"


def test_a_retry_keeps_the_delay_that_it_asks_for() -> None:
    assert sent(Retry("later", delay=2.5)).delay == 2.5
    assert sent(Retry("later")).delay is None
    assert sent(ValueError()).delay is None


def test_an_exception_that_cannot_say_what_it_is_is_recorded_nevertheless() -> None:
    failure = sent(raised(MuteError("a")))
    assert failure.message == "<MuteError without a message: its __str__ failed>"
    assert type(failure.to_exception()) is TaskError


ARGS = st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), max_size=3)


@given(args=ARGS)
def test_any_arguments_leave_the_process_even_text_that_utf_8_cannot_write(args: list[Any]) -> None:
    failure = sent(ValueError(*args))
    again = failure.to_exception()
    assert type(again) is ValueError
    assert "\udc80" not in failure.message


def test_a_file_name_that_is_no_text_is_escaped() -> None:
    failure = sent(FileNotFoundError(2, "No such file", "rows\udc80"))
    assert failure.args == (2, "No such file", "rows\\udc80")


def test_what_nobody_reads_to_its_end_is_cut_in_the_middle() -> None:
    failure = record_failure(ValueError("a" * 1_000_000 + "the end"))
    assert failure.message.startswith("aaa")
    assert failure.message.endswith("the end")
    assert "characters left out" in failure.message
    assert len(failure.message) + len(failure.traceback) + len(failure.args[0]) < 100_000
