"""Plain functions of imported modules are found by their names, and nothing else is."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from millstream.authoring.registry import Registry
from millstream.errors import UnknownNameError

SOURCE = """
from json import dumps
from millstream import task

def plain(x): return x
async def plain_async(x): return x
alias = plain
unnamed = lambda x: x
def generator(): yield 1
class Shop:
    def method(self): return 1
def outer():
    def inner(): return 1
    return inner
closure = outer()
@task
def decorated(x): return x
"""


@pytest.fixture
def shop() -> Iterator[ModuleType]:
    module = ModuleType("plain_shop")
    sys.modules[module.__name__] = module
    exec(SOURCE, module.__dict__)  # noqa: S102  a module without a file
    yield module
    del sys.modules[module.__name__]


@pytest.fixture
def registry(shop: ModuleType) -> Registry:
    registry = Registry()
    registry.scan(shop)
    return registry


def test_functions_of_the_module_can_be_run_by_their_names(registry: Registry) -> None:
    names = {"plain", "plain_async", "outer", "decorated"}
    assert set(registry.runnable()) == {f"plain_shop.{name}" for name in names}


def test_only_definitions_are_listed(registry: Registry) -> None:
    assert set(registry.names()) == {"plain_shop.decorated"}
    assert [known.name for known in registry.tasks()] == ["plain_shop.decorated"]
    with pytest.raises(UnknownNameError):
        registry.get("plain")


@pytest.mark.parametrize(("name", "form"), [("plain", "plain"), ("plain_async", "coroutine")])
def test_a_function_is_one_task_however_it_is_found(registry: Registry, shop: ModuleType, name: str, form: str) -> None:
    task = registry.task_of(getattr(shop, name))
    assert task is not None
    assert task is registry.work(f"plain_shop.{name}") is registry.task_of(getattr(shop, name))
    assert (task.name, task.form) == (f"plain_shop.{name}", form)


@pytest.mark.parametrize("name", ["dumps", "unnamed", "generator", "closure", "Shop", "decorated"])
def test_anything_else_has_no_task(registry: Registry, shop: ModuleType, name: str) -> None:
    assert registry.task_of(getattr(shop, name)) is None


def test_a_function_that_took_the_place_of_another_is_another_task(registry: Registry, shop: ModuleType) -> None:
    former = registry.task_of(shop.plain)
    exec("def plain(x): return 2 * x", shop.__dict__)  # noqa: S102  as a reload does
    assert registry.task_of(shop.plain) is None
    registry.scan(shop)
    assert registry.work("plain_shop.plain") is registry.task_of(shop.plain) is not former


def test_a_registry_adopts_what_another_one_has(registry: Registry, shop: ModuleType) -> None:
    other = Registry()
    other.adopt(registry)
    assert set(other.runnable()) == set(registry.runnable())
    assert other.task_of(shop.plain) is not None
