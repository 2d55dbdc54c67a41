"""Tasks with regular expressions, in Python's syntax.

There are patterns that Python needs ages for, and linear engines know no look-around, no back-references, and search
on from each match, so that finding all matches can take quadratic time with them, too. So these tasks run in a process
of the pool, and are stopped there: see `bounds.py`.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from millstream.authoring.task import task
from millstream.library.bounds import bounds
from millstream.library.values import as_text, bounded, bounded_parts

MOST_PATTERN = 10_000
"""Characters that a pattern may have."""


@task(effect="pure", run_in="process", soft_timeout=2, timeout=20)
def regex_extract(
    text: Any,
    pattern: str,
    group: str = "0",
    matches: Literal["first", "all"] = "first",
    default: str = "",
    *,
    ignore_case: bool = False,
) -> str | list[str]:
    r"""Take out of a text what matches a regular expression.

    Args:
        text: The text; a message stands for its text.
        pattern: The regular expression, in the syntax of Python's `re`.
        group: The group whose text is taken: its number, or its name; `0` is the whole match.
        matches: Whether the first match is taken, or all of them as a list.
        default: What stands for the first match where there is none.
        ignore_case: Whether upper and lower case are the same.

    Raises:
        ValueError: The pattern cannot be read, or has no such group.
        TimeoutError: It took more than 2 seconds.
        OutputTooLargeError: There are more than 100,000 matches.

    >>> regex_extract("order 17, order 18", r"order (\d+)", group="1", matches="all")
    ['17', '18']
    """
    with bounds("the pattern"):
        compiled = compiled_pattern(pattern, ignore_case=ignore_case)
        key: int | str = int(group) if group.isdecimal() else group
        if key not in compiled.groupindex and key not in range(compiled.groups + 1):
            raise ValueError(f"the pattern {pattern!r} has no group {group!r}")
        found = (match[key] or "" for match in compiled.finditer(as_text(text)))
        return bounded_parts(found) if matches == "all" else next(found, default)


@task(effect="pure", run_in="process", soft_timeout=2, timeout=20)
def regex_replace(text: Any, pattern: str, replacement: str = "", count: int = 0, *, ignore_case: bool = False) -> str:
    r"""Replace in a text what matches a regular expression.

    Args:
        text: The text; a message stands for its text.
        pattern: The regular expression, in the syntax of Python's `re`.
        replacement: What comes in its place; `\1` and `\g<name>` are the texts of groups.
        count: How many matches are replaced; 0 replaces all.
        ignore_case: Whether upper and lower case are the same.

    Raises:
        ValueError: The pattern or the replacement cannot be read.
        TimeoutError: It took more than 2 seconds.
        MemoryError: It wanted more than 512 MiB of memory.
        OutputTooLargeError: The text would be longer than 10 Mi characters.

    >>> regex_replace("2026-11-21", r"(\d+)-(\d+)-(\d+)", r"\3.\2.\1")
    '21.11.2026'
    """
    with bounds("the pattern"):
        compiled = compiled_pattern(pattern, ignore_case=ignore_case)
        try:
            return bounded(compiled.sub(replacement, as_text(text), max(count, 0)))
        except (re.error, IndexError) as error:
            raise ValueError(f"the replacement {replacement!r} does not fit the pattern: {error}") from None


def compiled_pattern(pattern: Any, *, ignore_case: bool) -> re.Pattern[str]:
    """Return a pattern, ready for use.

    Raises:
        ValueError: It is too long, or cannot be read.
    """
    pattern = as_text(pattern)
    if len(pattern) > MOST_PATTERN:
        raise ValueError(f"the pattern has {len(pattern):,} characters, but may have {MOST_PATTERN:,}")
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError) as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error}") from None
