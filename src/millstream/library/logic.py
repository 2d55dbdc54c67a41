"""Conditions on values, and the routers that choose by them which way a flow goes on."""

from __future__ import annotations

import math
from typing import Any, Literal

from millstream.authoring.task import task
from millstream.library.bounds import bounds
from millstream.library.patterns import compiled_pattern
from millstream.library.values import as_text, plain

Operator = Literal[
    "is true",
    "is empty",
    "equals",
    "not equals",
    "contains",
    "not contains",
    "starts with",
    "ends with",
    "matches regex",
    "less",
    "less or equal",
    "greater",
    "greater or equal",
]

_SAID_NO = frozenset({"", "0", "false", "no", "off", "none", "null"})


@task(effect="pure", run_in="process", soft_timeout=2, timeout=20)
def condition(value: Any, operator: Operator = "equals", other: Any = "", *, ignore_case: bool = False) -> bool:
    """Say whether a condition holds.

    Args:
        value: What is compared.
        operator: How it is compared. `less`, `greater` and their like compare numbers; `contains` looks for an item
            in a list, and for a part in a text; `is true` and `is empty` compare with nothing.
        other: What it is compared with; for `matches regex` the pattern, which may match anywhere in the text.
        ignore_case: Whether upper and lower case are the same.

    Raises:
        ValueError: There is no such operator, the pattern cannot be read, or what should be a number is none.
        TimeoutError: The pattern took more than 2 seconds.

    >>> condition([3, 4], "contains", 4)
    True
    """
    return _holds(value, operator, other, ignore_case=ignore_case)


@task(effect="pure", run_in="process", soft_timeout=2, timeout=20)
def if_else(
    value: Any, operator: Operator = "equals", other: Any = "", *, ignore_case: bool = False
) -> tuple[Literal["true", "false"], Any]:
    """Choose a way by whether a condition holds.

    Args:
        value: What is compared, and goes on by the way that is chosen.
        operator: How it is compared; see `Condition`.
        other: What it is compared with.
        ignore_case: Whether upper and lower case are the same.

    Returns:
        The way, and the value.

    Raises:
        ValueError: There is no such operator, the pattern cannot be read, or what should be a number is none.
        TimeoutError: The pattern took more than 2 seconds.

    >>> if_else("Hello", "starts with", "he", ignore_case=True)
    ('true', 'Hello')
    """
    return "true" if _holds(value, operator, other, ignore_case=ignore_case) else "false", value


def _holds(value: Any, operator: Operator, other: Any, *, ignore_case: bool) -> bool:
    match operator:
        case "is true":
            value = plain(value)
            return value.strip().lower() not in _SAID_NO if isinstance(value, str) else bool(value)
        case "is empty":
            return value in ([], {}, ()) or not as_text(value)
        case "matches regex":
            with bounds("the pattern"):
                return compiled_pattern(as_text(other), ignore_case=ignore_case).search(as_text(value)) is not None
        case "less" | "less or equal" | "greater" | "greater or equal":
            return _is_ordered(_number(value), operator, _number(other))
        case "contains" | "not contains" if isinstance(value, list):
            among = [_folded(item, ignore_case=ignore_case) for item in value]
            return (_folded(other, ignore_case=ignore_case) in among) is (operator == "contains")
        case _:
            text = _folded(value, ignore_case=ignore_case)
            return _texts_agree(text, _folded(other, ignore_case=ignore_case), operator)


def _texts_agree(text: str, other: str, operator: Operator) -> bool:
    match operator:
        case "equals":
            return text == other
        case "not equals":
            return text != other
        case "contains":
            return other in text
        case "not contains":
            return other not in text
        case "starts with":
            return text.startswith(other)
        case "ends with":
            return text.endswith(other)
        case _:
            raise ValueError(f"operator is {operator!r}, which values cannot be compared by")


def _is_ordered(left: float, operator: Operator, right: float) -> bool:
    match operator:
        case "less":
            return left < right
        case "less or equal":
            return left <= right
        case "greater":
            return left > right
        case _:
            return left >= right


def _number(value: Any) -> float:
    try:
        number = value if isinstance(value, int | float) else float(as_text(value))
    except ValueError:
        raise ValueError(f"{as_text(value)[:100]!r} is no number, so it is neither less nor greater") from None
    if isinstance(number, float) and math.isnan(number):
        raise ValueError("nan is neither less nor greater than a number")
    return number


def _folded(value: Any, *, ignore_case: bool) -> str:
    text = as_text(value)
    return text.casefold() if ignore_case else text


Case = Literal["case_1", "case_2", "case_3", "case_4", "case_5", "case_6", "case_7", "case_8", "default"]


@task(effect="pure", run_in="loop")
def switch(  # noqa: PLR0913, PLR0917  each case is a port
    value: Any,
    case_1: str | None = None,
    case_2: str | None = None,
    case_3: str | None = None,
    case_4: str | None = None,
    case_5: str | None = None,
    case_6: str | None = None,
    case_7: str | None = None,
    case_8: str | None = None,
    *,
    ignore_case: bool = False,
) -> tuple[Case, Any]:
    """Choose among several ways: that of the first case that is equal to a value, else the default.

    Args:
        value: What is compared as text, and goes on by the way that is chosen.
        case_1: The text of the first case; none leaves it out.
        case_2: The text of the second case.
        case_3: The text of the third case.
        case_4: The text of the fourth case.
        case_5: The text of the fifth case.
        case_6: The text of the sixth case.
        case_7: The text of the seventh case.
        case_8: The text of the eighth case.
        ignore_case: Whether upper and lower case are the same.

    Returns:
        The way, and the value.

    >>> switch("billing", case_1="support", case_2="billing")
    ('case_2', 'billing')
    """
    wanted = _folded(value, ignore_case=ignore_case)
    cases: tuple[tuple[Case, str | None], ...] = (
        ("case_1", case_1),
        ("case_2", case_2),
        ("case_3", case_3),
        ("case_4", case_4),
        ("case_5", case_5),
        ("case_6", case_6),
        ("case_7", case_7),
        ("case_8", case_8),
    )
    for way, text in cases:
        if text is not None and _folded(text, ignore_case=ignore_case) == wanted:
            return way, value
    return "default", value
