"""A branch gives the result of the way that was chosen, whatever the ways that were not chosen would give."""

from collections.abc import Callable
from typing import Any

import pytest

from millstream import Flow, branch, task


@task
def five() -> int:
    return 5


@task
def double(x: int) -> int:
    return 2 * x


@task
def says(value: object, _after: object) -> object:
    return value


@pytest.mark.parametrize(("chosen", "expected"), [(False, 5), (True, 10)])
@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_a_way_may_give_what_another_node_has(chosen: bool, expected: int, order: tuple[bool, bool]) -> None:  # noqa: FBT001
    with Flow("it") as it:
        n = five()
        ways: dict[bool, Callable[[], Any]] = {False: lambda: n, True: lambda: double(n)}
        it.returns(branch(says(chosen, n), {key: ways[key] for key in order}))
    assert it.run() == expected


def test_a_way_may_give_nothing_beside_one_that_gives_what_another_node_has() -> None:
    with Flow("it") as it:
        n = five()
        it.returns(branch(says("none", n), {"five": lambda: n, "none": lambda: None}))
    assert it.run() is None


def test_a_way_may_give_a_part_of_what_another_node_has() -> None:
    with Flow("it") as it:
        pair = says([3, 4], 0)
        it.returns(branch(says("last", pair), {"first": lambda: pair[0], "last": lambda: pair[1]}))
    assert it.run() == 4


def test_a_branch_may_be_the_way_of_a_branch() -> None:
    with Flow("it") as it:
        n = five()
        inner = {"n": lambda: n, "double": lambda: double(n)}
        it.returns(branch(says("out", n), {"n": lambda: n, "out": lambda: branch(says("double", n), inner)}))
    assert it.run() == 10
