"""The pytest plugin of millstream: apps for tests, as fixtures. Examples are in docs/howto/test-your-flows.md.

It stands beside the package, and imports it only when a fixture is used: every run of pytest on a machine loads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from millstream.app import Millstream


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "millstream(imports=(), **settings): modules that the app of `millstream_app` and `millstream_eager` imports, "
        "and its settings; they go before those of `millstream_config`.",
    )


@pytest.fixture
def millstream_config() -> dict[str, Any]:
    """The settings of the test's app, by name; override it for a module or directory."""
    return {}


@pytest.fixture
def millstream_app(request: pytest.FixtureRequest, millstream_config: dict[str, Any]) -> Iterator[Millstream]:
    """An app in memory, which is the default one while the test runs; nothing is left of it afterwards.

    It lives on a loop of its own, so that plain and coroutine tests alike can use it.
    """
    yield from _app(request, millstream_config)


@pytest.fixture
def millstream_eager(request: pytest.FixtureRequest, millstream_config: dict[str, Any]) -> Iterator[Millstream]:
    """As `millstream_app`, but `delay()` and `apply_async()` run the task at once in the thread of the test.

    What a task raises comes out of them.
    """
    yield from _app(request, {"task_always_eager": True, "task_eager_propagates": True, **millstream_config})


def _app(request: pytest.FixtureRequest, config: dict[str, Any]) -> Iterator[Millstream]:
    from millstream.app import Millstream  # noqa: PLC0415  see above
    from millstream.authoring import current  # noqa: PLC0415  see above
    from millstream.errors import SettingsError  # noqa: PLC0415  see above
    from millstream.portal import run_here  # noqa: PLC0415  see above
    from millstream.settings import Settings  # noqa: PLC0415  see above

    values = {"durability": "off", **config}
    for mark in reversed([*request.node.iter_markers("millstream")]):
        if mark.args:
            wrong = ", ".join(map(repr, mark.args))
            pytest.fail(f"the marker millstream({wrong}) must say what {wrong} is: imports=[{wrong}]", pytrace=False)
        values.update(mark.kwargs)
    try:
        settings = Settings.of(**values)
    except SettingsError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    app = Millstream(settings=settings)
    with current.use_everywhere(app):
        app.block_on(app.__aenter__)
        try:
            yield app
        finally:
            run_here(app.aclose)
