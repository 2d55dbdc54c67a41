"""`FlaskMillstream`: what it makes of a Flask app, and in which app's context tasks run."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g

from millstream import chord, flow, task
from millstream.authoring import current
from millstream.compat import _state, shared_task
from millstream.compat import current_app as current_celery
from millstream.compat.exceptions import ImproperlyConfigured
from millstream.compat.result import AsyncResult
from millstream.errors import DefinitionError, SettingsError
from millstream.integrations.flask import FlaskCelery, FlaskEngine, FlaskMillstream
from tests.integration.flask_tasks import (
    create_app,
    ext,
    greet,
    greet_async,
    greet_at_second,
    greet_in_process,
    greet_shared,
)

WAIT = 120
Make = Callable[..., Flask]


@task
def double(x: int) -> int:
    return 2 * x


@flow
def doubled(upto: int) -> Any:
    return double.map(list(range(upto)))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make Flask apps, each with a ledger of its own."""
    made: list[Flask] = []

    def make_one(**config: object) -> Flask:
        config.setdefault("MILLSTREAM_DATABASE_URL", f"sqlite:///{tmp_path}/{len(made)}.db")
        made.append(create_app(**config))
        return made[-1]

    yield make_one
    for app in made:
        asyncio.run(engine(app).aclose())
    _state.set_current_app(None)
    ext._last = None


def engine(app: Flask) -> FlaskEngine:
    found: FlaskEngine = app.extensions["millstream"]
    return found


# ----------------------------------------------------------------------------------------------- what it makes
def test_an_app_has_an_engine_and_an_app_of_celerys_names_of_its_own(make: Make) -> None:
    first, second = make(), make()
    assert isinstance(engine(first), FlaskEngine)
    assert engine(first) is not engine(second)
    celery = first.extensions["celery"]
    assert isinstance(celery, FlaskCelery)
    assert (celery.flask_app, celery.engine) == (first, engine(first))
    assert celery.tasks[greet.name] is greet


def test_an_app_is_fitted_out_once() -> None:
    app = Flask("once")
    FlaskMillstream(app)
    with pytest.raises(DefinitionError, match=r"Flask app 'once' has app\.extensions\['millstream'\] already"):
        FlaskMillstream(app)


def test_a_task_without_a_flask_app_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASK_APP", raising=False)
    lonely = FlaskMillstream()

    @lonely.task(name="lonely.task")
    def nothing() -> None: ...

    with pytest.raises(DefinitionError, match="call init_app"):
        nothing.delay()


# ------------------------------------------------------------------------------------------------- the context
@pytest.mark.parametrize("used", [greet, greet_async, greet_at_second, greet_shared], ids=lambda used: used.fn.__name__)
def test_a_task_runs_in_the_context_of_its_app(make: Make, used: Any) -> None:
    with make().app_context():
        assert used.delay("tea").get(timeout=WAIT) == "hello tea"


def test_a_task_in_a_process_does_too_where_the_app_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_APP", "tests.integration.flask_tasks:create_app(GREETING='good day')")
    with make().app_context():
        said, pid = greet_in_process.delay("tea").get(timeout=WAIT)
    assert said == "good day tea"
    assert pid != os.getpid()


def test_a_task_that_is_called_like_a_function_does_too(make: Make) -> None:
    make()
    assert greet("tea") == "hello tea"
    assert asyncio.run(greet_async("tea")) == "hello tea"


def test_each_run_has_a_context_of_its_own_that_is_torn_down(make: Make) -> None:
    app = make()
    seen: list[Any] = []
    app.teardown_appcontext(lambda error: seen.append((g.get("mark"), error)))

    @ext.task(name="torn.down")
    def mark(value: int) -> bool:
        was_there, g.mark = "mark" in g, value
        return was_there

    results = [mark.delay(value) for value in range(3)]
    assert [result.get(timeout=WAIT) for result in results] == [False, False, False]
    assert sorted(seen) == [(0, None), (1, None), (2, None)]


def test_tasks_of_one_extension_run_in_the_app_that_they_were_started_from(make: Make) -> None:
    first, second = make(GREETING="good morning"), make(GREETING="good night")
    for used in (greet, greet_async, greet_shared):
        with first.app_context():
            early = used.delay("tea")
        with second.app_context():
            late = used.delay("tea")
        assert (early.get(timeout=WAIT), late.get(timeout=WAIT)) == ("good morning tea", "good night tea")


def test_a_shared_task_is_taken_over_by_an_app_that_is_not_the_last_one(make: Make) -> None:
    first, _ = make(GREETING="good morning"), make()

    @shared_task(name="shared.afterwards")
    def afterwards() -> str:
        return str(current_app.config["GREETING"])

    with first.app_context():
        assert afterwards.delay().get(timeout=WAIT) == "good morning"


def test_a_canvas_runs_in_one_app_as_a_whole(make: Make) -> None:
    first, _ = make(GREETING="good morning"), make()

    @ext.task(name="canvas.joined")
    def joined(parts: list[str]) -> str:
        return f"{', '.join(parts)} by {current_app.config['GREETING']}"

    with first.app_context():
        result = chord([greet.s("tea"), greet_async.s("cake")])(joined.s())
    assert result.get(timeout=WAIT) == "good morning tea, good morning cake by good morning"


def test_what_a_running_task_starts_runs_in_the_same_app(make: Make) -> None:
    first, _ = make(GREETING="good morning"), make()

    @ext.task(name="nested.outer")
    def outer(name: str) -> str:
        return str(greet.delay(name).id)

    with first.app_context():
        assert AsyncResult(outer.delay("tea").get(timeout=WAIT)).get(timeout=WAIT) == "good morning tea"


def test_flows_and_results_in_an_apps_context_are_those_of_its_engine(make: Make) -> None:
    first, second = make(), make()
    with first.app_context():
        assert doubled.run(upto=3) == [0, 2, 4]
        result = greet.delay("tea")
        assert result.get(timeout=WAIT) == "hello tea"
        assert AsyncResult(result.id).state == "SUCCESS"
        assert current_celery.AsyncResult(result.id).state == "SUCCESS"
    with second.app_context():
        assert current.app() is engine(second)
        assert AsyncResult(result.id).state is None


def test_a_task_of_one_apps_own_is_not_the_others(make: Make) -> None:
    make()
    other = Flask("other")
    other.config.from_mapping(GREETING="hi", MILLSTREAM_DURABILITY="off")
    another = FlaskMillstream(other)

    @another.task(name="others.task")
    def own() -> str:
        return str(current_app.config["GREETING"])

    assert own.name in other.extensions["celery"].tasks
    assert own.name not in ext.celery.tasks
    with ext.celery.flask_app.app_context():  # it belongs to its own app wherever it is started
        assert own.delay().get(timeout=WAIT) == "hi"
    asyncio.run(engine(other).aclose())


# ------------------------------------------------------------------------------------------------- configuration
@pytest.mark.parametrize(
    "config",
    [
        {"CELERY_TASK_TIME_LIMIT": 30, "CELERY_RESULT_BACKEND": "redis://x"},
        {"CELERYD_TASK_TIME_LIMIT": 30, "CELERY_RESULT_BACKEND": "redis://x"},
        {"CELERY": {"task_time_limit": 30, "result_backend": "redis://x", "task_ignore_result": True}},
    ],
    ids=["upper case", "of old", "the dict of Flask's own documentation"],
)
def test_celerys_settings_are_read_in_each_style(make: Make, config: dict[str, object]) -> None:
    conf = make(**config).extensions["celery"].conf
    assert (conf.task_time_limit, conf.result_backend) == (30, "redis://x")
    assert greet.policy.timeout == 30


def test_a_setting_of_celery_that_is_misspelt_is_told(make: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match="CELERY_TASK_TIME_LIMT"):
        make(CELERY_TASK_TIME_LIMT=30)


def test_keys_that_begin_with_millstream_are_settings_and_count_more_than_the_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREADS", "7")
    monkeypatch.setenv("MILLSTREAM_MAX_CRASHES", "5")
    settings = engine(make(MILLSTREAM_MAX_THREADS=8)).settings
    assert (settings.max_threads, settings.max_crashes) == (8, 5)
    with pytest.raises(SettingsError, match=r"max_treads .*did you mean max_threads"):
        make(MILLSTREAM_MAX_TREADS=8)


def test_without_a_broker_tasks_run_in_process(make: Make) -> None:
    settings = engine(make()).settings
    assert not settings.celery_enabled


@pytest.mark.parametrize(
    "config",
    [
        {"CELERY_BROKER_URL": "redis://localhost:6379/3"},
        {"BROKER_URL": "redis://localhost:6379/3"},
        {"CELERY": {"broker_url": "redis://localhost:6379/3"}},
        {"CELERY": {"broker_url": ["redis://localhost:6379/3"]}},
    ],
    ids=["upper case", "of old", "dict", "a list"],
)
def test_a_broker_is_the_switch_to_workers(make: Make, config: dict[str, object]) -> None:
    settings = engine(make(**config)).settings
    assert settings.celery_enabled
    assert settings.effective_broker_url == "redis://localhost:6379/3"


def test_a_broker_in_the_environment_counts_more_than_the_configuration_as_in_celery(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://localhost:6379/4")
    for config in ({}, {"CELERY_BROKER_URL": "redis://localhost:6379/3"}):
        assert engine(make(**config)).settings.effective_broker_url == "redis://localhost:6379/4"


def test_who_says_celery_enabled_has_the_last_word(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = {"CELERY_BROKER_URL": "redis://localhost:6379/3"}
    assert not engine(make(MILLSTREAM_CELERY_ENABLED=False, **broker)).settings.celery_enabled
    monkeypatch.setenv("MILLSTREAM_CELERY_ENABLED", "false")
    assert not engine(make(**broker)).settings.celery_enabled


def test_celerys_settings_of_workers_are_those_of_our_workers(make: Make) -> None:
    celery = {"broker_url": "redis://localhost", "worker_prefetch_multiplier": 3, "task_default_queue": "matrices"}
    settings = engine(make(CELERY=celery)).settings
    assert (settings.worker_prefetch_multiplier, settings.default_queue) == (3, "matrices")


def test_an_eager_app_runs_tasks_at_the_call(make: Make) -> None:
    with make(CELERY={"task_always_eager": True}).app_context():
        result = greet.delay("tea")
        assert (result.result, type(result).__name__) == ("hello tea", "EagerResult")
