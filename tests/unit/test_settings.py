"""Settings come from where the documentation says, in its order, and a mistake is told in one line."""

import copy
import doctest
import os
import pickle
import re
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import millstream.settings
import millstream.urls
from millstream.errors import SettingsError
from millstream.settings import Settings, Source
from millstream.urls import database_url

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"

# The settings that the guides to Langflow's workers and task backends name, with the defaults they give.
OF_THE_GUIDES = {
    "celery_enabled": False,
    "config_dir": None,
    "database_url": None,
    "gunicorn_preload": False,
    "job_queue_type": None,
    "redis_host": "localhost",
    "redis_port": 6379,
    "redis_queue_cancel_channel_enabled": True,
    "redis_queue_cancel_marker_ttl": 60,
    "redis_queue_db": 1,
    "redis_queue_host": None,
    "redis_queue_polling_stale_threshold_s": 90.0,
    "redis_queue_polling_watchdog_interval_s": 15.0,
    "redis_queue_port": None,
    "redis_queue_startup_grace_s": 30.0,
    "redis_queue_ttl": 3600,
    "redis_queue_url": None,
    "redis_url": None,
    "superuser": None,
    "superuser_password": None,
    "auto_login": None,
    "worker_timeout": 300,
    "workers": 1,
    "host": "127.0.0.1",
    "port": 7860,
}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory, in an environment without settings."""
    for name in os.environ:
        if name.upper().startswith(("MILLSTREAM_", "LANGFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(*, env_file: Path | str | None = None, **overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(env_file=env_file, **overrides)
    return str(caught.value).splitlines()


# --------------------------------------------------------------------------------------------------- where from
def test_without_any_source_every_setting_has_its_default() -> None:
    settings = Settings.load()
    assert settings == Settings()
    assert set(map(str, settings.sources().values())) == {"default"}
    assert settings.sources().keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("present", list(product([True, False], repeat=6)))
def test_of_any_sources_the_best_one_counts(
    present: tuple[bool, ...], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argument, ours, theirs, ours_in_file, theirs_in_file, yaml = present
    if ours:
        monkeypatch.setenv("MILLSTREAM_WORKERS", "3")
    if theirs:
        monkeypatch.setenv("LANGFLOW_WORKERS", "4")
    lines = ["MILLSTREAM_WORKERS=5"] * ours_in_file + ["LANGFLOW_WORKERS=6"] * theirs_in_file
    (work / ".env").write_text("\n".join(lines), encoding="utf-8")
    (work / "config.yaml").write_text("workers: 7" * yaml, encoding="utf-8")
    settings = Settings.load(workers=2 if argument else None)

    ranking = [
        (2, "argument"),
        (3, "environment MILLSTREAM_WORKERS"),
        (4, "environment LANGFLOW_WORKERS"),
        (5, f".env ({work / '.env'}) MILLSTREAM_WORKERS"),
        (6, f".env ({work / '.env'}) LANGFLOW_WORKERS"),
        (7, f"config.yaml ({work / 'config.yaml'})"),
        (1, "default"),
    ]
    best = next(one for one, there in zip(ranking, (*present, True), strict=True) if there)
    assert (settings.workers, str(settings.sources()["workers"])) == best


@given(
    name=st.sampled_from(["max_threads", "draw_timeout", "log_level", "durability", "gunicorn_preload", "superuser"]),
    text=st.one_of(
        st.sampled_from(["off", "yes", "FALSE", "010", "0x10", "1_000", "1e1", ".5", "inf", "nan", "INFO", "1:30"]),
        st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.+-]{0,8}\Z").filter(lambda text: text != "null"),
    ),
)
def test_a_text_means_the_same_in_every_source(name: str, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    work = tmp_path_factory.mktemp("work")
    (work / "config.yaml").write_text(f"{name}: {text}\n", encoding="utf-8")
    (work / "one.env").write_text(f"MILLSTREAM_{name.upper()}={text}\n", encoding="utf-8")

    def outcome(variable: str, value: str, **arguments: str) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, value)
            try:
                return getattr(Settings.load(**arguments), name)
            except SettingsError as error:
                return str(error).partition(": ")[2]

    from_the_environment = outcome(f"MILLSTREAM_{name.upper()}", text)
    assert outcome("UNRELATED", "", **{name: text}) == from_the_environment
    assert outcome("UNRELATED", "", env_file=str(work / "one.env")) == from_the_environment
    told = outcome("MILLSTREAM_CONFIG_DIR", str(work))
    assert told == from_the_environment or str(told).endswith(str(from_the_environment))


def test_an_empty_value_counts_as_not_set(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREADS", "")
    monkeypatch.setenv("LANGFLOW_REDIS_URL", "")
    (work / ".env").write_text("MILLSTREAM_LOG_LEVEL=\nMILLSTREAM_LOG_FORMAT\n", encoding="utf-8")
    (work / "config.yaml").write_text("max_threads: 7\nlog_level: info\nimports:\ndatabase_url: null\n")
    settings = Settings.load(max_threads=None)
    assert (settings.max_threads, settings.log_level, settings.imports) == (7, "info", ())


def test_names_of_variables_may_be_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("millstream_max_threads", "7")
    assert Settings.load().max_threads == 7


def test_a_credential_for_servers_in_the_environment_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_API_KEY", "ms_x_y")
    assert "ms_x_y" not in repr(Settings.load().sources())


def test_the_env_file_that_is_named_replaces_the_one_in_the_working_directory(work: Path) -> None:
    (work / ".env").write_text("MILLSTREAM_MAX_THREADS=7\nMILLSTREAM_MAX_SEGMENTS=7")
    (work / "live.env").write_text("MILLSTREAM_MAX_THREADS=8")
    settings = Settings.load(env_file="live.env")
    assert (settings.max_threads, settings.max_segments) == (8, 1000)
    assert settings.sources()["max_threads"] == Source(".env", "MILLSTREAM_MAX_THREADS", work / "live.env")


@pytest.mark.parametrize("place", ["argument", "environment", ".env"])
def test_config_yaml_lies_in_config_dir(place: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    (work / "config.yaml").write_text("max_threads: 7\nmax_segments: 7")
    (elsewhere / "config.yaml").write_text("max_threads: 8")
    match place:
        case "argument":
            pass
        case "environment":
            monkeypatch.setenv("LANGFLOW_CONFIG_DIR", str(elsewhere))
        case _:
            (work / ".env").write_text("MILLSTREAM_CONFIG_DIR=elsewhere")
    settings = Settings.load(config_dir=elsewhere if place == "argument" else None)
    assert (settings.max_threads, settings.max_segments) == (8, 1000)


def test_a_tilde_in_config_dir_is_the_home_directory(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work / "home"))
    (work / "home").mkdir()
    (work / "home" / "config.yaml").write_text("max_threads: 8")
    settings = Settings.load(config_dir="~")
    assert (settings.config_dir, settings.max_threads) == (work / "home", 8)


@pytest.mark.parametrize("name", ["~nobody-of-this-name", "not-there-yet"])
def test_a_config_dir_that_does_not_exist_holds_no_config_yaml(name: str) -> None:
    assert Settings.load(config_dir=name).config_dir == Path(name)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_config_yaml_sets_nothing(text: str, work: Path) -> None:
    (work / "config.yaml").write_text(text)
    assert Settings.load() == Settings()


@pytest.mark.parametrize("text", ["imports: shop.tasks, shop.flows", "imports: [shop.tasks, shop.flows]"])
def test_imports_may_be_a_list_or_have_commas(text: str, work: Path) -> None:
    (work / "config.yaml").write_text(text)
    assert Settings.load().imports == ("shop.tasks", "shop.flows")
    assert Settings.load(imports=["one"]).imports == ("one",)


# ------------------------------------------------------------------------------------------- Langflow's settings
@pytest.mark.parametrize(("name", "default"), OF_THE_GUIDES.items())
def test_a_setting_of_the_guides_has_the_default_they_give(name: str, default: object) -> None:
    assert getattr(Settings(), name) == default


@pytest.mark.parametrize("name", OF_THE_GUIDES)
def test_a_setting_of_the_guides_is_read_under_its_langflow_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {
        "job_queue_type": "redis",
        "database_url": "postgresql:///jobs",
        "redis_queue_url": "redis://localhost/1",
        "superuser_password": "changeme",
    }
    text = other.get(name, "1")
    monkeypatch.setenv("MILLSTREAM_BROKER_URL", "redis://localhost")  # which celery_enabled asks for
    monkeypatch.setenv(f"LANGFLOW_{name.upper()}", text)
    assert str(Settings.load().sources()[name]) == f"environment LANGFLOW_{name.upper()}"


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - OF_THE_GUIDES.keys()))
def test_a_setting_of_our_own_is_not_read_under_a_langflow_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LANGFLOW_{name.upper()}", "wrong for most of them")
    assert Settings.load() == Settings()


def test_the_environment_of_the_guide_works_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = """LANGFLOW_DATABASE_URL=postgresql://langflow:langflow@postgres:5432/langflow
    LANGFLOW_CONFIG_DIR=/app/langflow
    LANGFLOW_WORKERS=3
    LANGFLOW_GUNICORN_PRELOAD=true
    LANGFLOW_JOB_QUEUE_TYPE=redis
    LANGFLOW_REDIS_QUEUE_URL=redis://redis:6379/1
    LANGFLOW_SUPERUSER=admin
    LANGFLOW_SUPERUSER_PASSWORD=changeme
    LANGFLOW_AUTO_LOGIN=False"""
    for line in guide.split():
        monkeypatch.setenv(*line.split("=", 1))
    settings = Settings.load()
    assert (settings.workers, settings.gunicorn_preload, settings.auto_login) == (3, True, False)
    assert (settings.effective_job_queue_type, settings.redis_queue_url) == ("redis", "redis://redis:6379/1")
    assert settings.superuser_password is not None
    assert settings.superuser_password.get_secret_value() == "changeme"


# ------------------------------------------------------------------------------------------------- the event log
@pytest.mark.parametrize(
    ("settings", "event_log"),
    [
        (Settings(), "asyncio"),
        (Settings(redis_url="redis://r"), "asyncio"),
        (Settings(celery_enabled=True, broker_url="amqp://r"), "asyncio"),
        (Settings(celery_enabled=True, broker_url="redis://r"), "asyncio"),
        (Settings(celery_enabled=True, redis_url="redis://r"), "redis"),
        (Settings(celery_enabled=True, broker_url="amqp://r", redis_queue_url="redis://r/1"), "redis"),
        (Settings(celery_enabled=True, broker_url="amqp://r", redis_queue_host="r"), "redis"),
        (Settings(celery_enabled=True, redis_url="redis://r", job_queue_type="asyncio"), "asyncio"),
        (Settings(job_queue_type="redis"), "redis"),
    ],
)
def test_the_event_log_is_in_memory_unless_the_settings_name_another(settings: Settings, event_log: str) -> None:
    assert settings.effective_job_queue_type == event_log


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "redis://localhost:6379/1"),
        ({"redis_host": "r"}, "redis://r:6379/1"),
        ({"redis_host": "r", "redis_port": 7}, "redis://r:7/1"),
        ({"redis_host": "r", "redis_queue_port": 8}, "redis://r:8/1"),
        ({"redis_host": "r", "redis_queue_host": "q"}, "redis://q:6379/1"),
        ({"redis_queue_host": "::1", "redis_queue_db": 4}, "redis://[::1]:6379/4"),
        ({"redis_url": "redis://u:p@r:7/0?health_check_interval=3"}, "redis://u:p@r:7/1?health_check_interval=3"),
        ({"redis_url": "rediss://:p@r", "redis_queue_db": 0}, "rediss://:p@r/0"),
        ({"redis_url": "redis://r:7/0", "redis_queue_host": "q"}, "redis://q:6379/1"),
        ({"redis_url": "redis://r:7/0", "redis_queue_url": "rediss://q/3", "redis_queue_host": "x"}, "rediss://q/3"),
    ],
)
def test_the_event_log_is_where_the_most_particular_setting_says(given: dict[str, Any], url: str) -> None:
    assert Settings(**given).effective_redis_queue_url == url


@pytest.mark.parametrize(
    ("queue", "broker", "is_refused"),
    [
        ({"redis_queue_url": "redis://r:6379/0"}, {"broker_url": "redis://r"}, True),
        ({"redis_queue_url": "redis://:p@localhost/2"}, {"redis_url": "redis://127.0.0.1:6379/2"}, True),
        ({"redis_queue_db": 0}, {"redis_url": "redis://r/0"}, True),
        ({"redis_queue_host": "r"}, {"broker_url": "redis://one/1;redis://r/1"}, True),
        ({"redis_queue_url": "redis://r/1"}, {"broker_url": "redis://r/0"}, False),
        ({"redis_queue_url": "redis://q/0"}, {"broker_url": "redis://r/0"}, False),
        ({"redis_queue_url": "redis://r/0"}, {"broker_url": "amqp://r"}, False),
        ({}, {"redis_url": "redis://r/1"}, False),  # one of them is a default: their keys have other names
    ],
)
def test_event_log_and_broker_in_one_database_by_hand_are_refused_in_one_line(
    queue: dict[str, Any],
    broker: dict[str, Any],
    is_refused: bool,  # noqa: FBT001  a column of the table above
) -> None:
    given = {"celery_enabled": True, "job_queue_type": "redis", **queue, **broker}
    if not is_refused:
        Settings.load(**given)
        return
    (problem,) = problems(**given)
    assert problem.endswith(
        "the broker is in that database; give the event log one of its own, as in redis://HOST:PORT/1"
    )
    assert problem.startswith(("redis_queue_url = redis://", "redis_queue_db = "))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://r", "give the URL of one Redis server, as in redis://HOST:PORT/1"),
        ("redis://a;redis://b", "give the URL of one Redis server, as in redis://HOST:PORT/1"),
        ("redis://r/first", "a database of Redis is a number; give redis://HOST:PORT/DATABASE, as in redis://HOST/1"),
        (
            "redis://r:x/1",
            "a port is a number from 1 to 65535; give redis://HOST:PORT/DATABASE, as in redis://HOST:6379/1",
        ),
    ],
)
def test_what_is_no_redis_server_is_refused(url: str, told: str) -> None:
    (problem,) = problems(redis_queue_url=url)
    assert problem == f"redis_queue_url = {url!r} (argument): {told}"
    (problem,) = problems(redis_url=url, job_queue_type="redis")
    assert problem == f"redis_url = {url} (argument): {told}; or set redis_queue_url"


def test_a_redis_event_log_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(millstream.settings.event_log, "find_spec", lambda _: None)
    (problem,) = problems(job_queue_type="redis")
    assert problem == (
        'job_queue_type = redis (argument): needs redis; install it with pip install "millstream[redis]"'
    )


# ------------------------------------------------------------------------------------------------- the database
@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///jobs.db",
        "sqlite:////srv/shop/jobs.db",
        "sqlite:///~/jobs.db",
        "postgresql://me:pw@db:5432/jobs",
        "postgresql+psycopg:///jobs",
        "postgres://db/jobs",
    ],
)
def test_a_ledger_lives_in_a_file_or_on_postgresql(url: str) -> None:
    settings = Settings.load(database_url=url)
    assert settings.database_url == settings.effective_database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cr3t@db/jobs",
        "postgresql+asyncpg://me:s3cr3t@db/jobs",
        "postgresql:me:s3cr3t@db",
        "sqlite:jobs.db",
    ],
)
def test_another_database_is_refused_in_one_line_without_its_password(url: str) -> None:
    (problem,) = problems(database_url=url)
    assert problem.startswith("database_url = ")
    assert problem.endswith("(argument): give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    assert "s3cr3t" not in problem


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://jobs.db", "sqlite:///file:x"]
)
def test_a_ledger_is_never_kept_in_memory_by_sqlite(url: str) -> None:
    (problem,) = problems(database_url=url)
    assert "give a file, as in sqlite:///ledger.db" in problem


def test_a_bare_postgresql_url_means_psycopg() -> None:
    assert database_url("postgres://db/jobs") == database_url("postgresql://db/jobs") == "postgresql+psycopg://db/jobs"


def test_without_a_database_the_ledger_lies_in_the_working_directory(work: Path) -> None:
    assert Settings.load().effective_database_url == f"sqlite:///{work}/.millstream/ledger.db"
    assert list(work.iterdir()) == []


def test_without_a_database_the_ledger_lies_in_config_dir(work: Path) -> None:
    assert Settings.load(config_dir="conf").effective_database_url == f"sqlite:///{work}/conf/ledger.db"


# --------------------------------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("max_threads", "0", "give a whole number from 1 to 1000"),
        ("max_threads", "1001", "give a whole number from 1 to 1000"),
        ("max_threads", "many", "give a whole number from 1 to 1000"),
        ("max_segments", "0", "give a whole number of at least 1"),
        ("max_processes", "0", "give a whole number of at least 1"),
        ("max_graph_nodes", "1.5", "give a whole number of at least 1"),
        ("draw_timeout", "0", "give a number above 0"),
        ("draw_timeout", "inf", "give a number above 0"),
        ("draw_timeout", "nan", "give a number above 0"),
        ("disconnect_grace", "-1", "give a number of at least 0"),
        ("log_level", "loud", "give debug, info, warning or error"),
        ("log_format", "xml", "give console or json"),
        ("durability", "maybe", "give full, relaxed or off"),
        ("lease_seconds", "0", "give a number above 0"),
        ("max_crashes", "0", "give a whole number of at least 1"),
        ("conduct_linger", "-1", "give a number of at least 0"),
        ("max_value_bytes", "64 MiB", "give a whole number of at least 1"),
        ("retention_days", "-1", "give a number of at least 0"),
        ("database_url", "jobs.db", "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("job_queue_type", "rabbit", "give asyncio or redis"),
        ("imports", "shop tasks", "give module names, separated by commas, as in shop.tasks,shop.flows"),
        ("imports", "shop.tasks:app", "give module names, separated by commas, as in shop.tasks,shop.flows"),
        ("celery_enabled", "perhaps", "give true or false"),
        ("redis_queue_cancel_marker_ttl", "0", "give a whole number of at least 1"),
        ("redis_queue_polling_watchdog_interval_s", "0", "give a number above 0"),
        ("port", "65536", "give a whole number from 0 to 65535"),
        ("redis_port", "0", "give a whole number from 1 to 65535"),
        ("worker_prefetch_multiplier", "0", "give a whole number of at least 1"),
        ("default_queue", "a,b", "give a name without spaces and commas, as in celery"),
    ],
)
def test_a_wrong_value_is_told_with_its_source_and_what_is_allowed(
    name: str, value: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MILLSTREAM_{name.upper()}", value)
    assert problems() == [f"{name} = '{value}' (environment MILLSTREAM_{name.upper()}): {way_out}"]


def test_a_value_of_the_wrong_shape_is_told_too(work: Path) -> None:
    (work / "config.yaml").write_text("imports: {a: b}\nlog_level: [info]\nsuperuser: [admin]\n")
    source = f"config.yaml ({work / 'config.yaml'})"
    assert problems() == [
        f"imports = {{'a': 'b'}} ({source}): give module names, separated by commas",
        f"log_level = ['info'] ({source}): give debug, info, warning or error",
        f"superuser = ['admin'] ({source}): give text",
    ]


def test_config_dir_must_not_be_a_file(work: Path) -> None:
    (work / "file").touch()
    assert problems(config_dir="file") == ["config_dir = 'file' (argument): give a directory; this is a file"]


def test_an_unknown_name_is_told_with_the_one_that_was_meant(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREAD", "8")
    (work / ".env").write_text("MILLSTREAM_IMPORT=a")
    (work / "config.yaml").write_text("MAX_SEGMENTS: 8\nfrobnicate: 1")
    assert problems(log_lvl="info") == [
        "log_lvl (argument): no such setting; did you mean log_level?",
        "max_thread (environment MILLSTREAM_MAX_THREAD): no such setting; did you mean MILLSTREAM_MAX_THREADS?",
        f"import (.env ({work / '.env'}) MILLSTREAM_IMPORT): no such setting; did you mean MILLSTREAM_IMPORTS?",
        f"MAX_SEGMENTS (config.yaml ({work / 'config.yaml'})): no such setting; did you mean max_segments?",
        f"frobnicate (config.yaml ({work / 'config.yaml'})): no such setting",
    ]


@pytest.mark.usefixtures("work")
def test_gunicorns_variable_has_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_GUNICORN_CMD_ARGS", "--max-requests 100")
    told = "Gunicorn's options are in GUNICORN_CMD_ARGS, in the environment or in .env"
    assert problems() == [f"gunicorn_cmd_args (environment MILLSTREAM_GUNICORN_CMD_ARGS): no such setting; {told}"]


def test_unknown_variables_of_langflow_are_left_alone(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFLOW_COMPONENTS_PATH", "/app/components")
    (work / ".env").write_text("LANGFLOW_STORE=true\nSHOP_KEY=1")
    assert Settings.load() == Settings()


def test_several_problems_are_one_error_with_a_line_for_each(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREADS", "0")
    monkeypatch.setenv("LANGFLOW_HOST", "0.0.0.0")  # noqa: S104  nothing listens
    monkeypatch.setenv("LANGFLOW_AUTO_LOGIN", "true")
    too_open = "whoever reaches 0.0.0.0 would be the superuser; leave it unset"
    (work / "config.yaml").write_text("nonsense: 1")
    assert problems(env_file="none.env", draw_timeout=-1) == [
        f"{work / 'none.env'}: there is no such .env file",
        f"nonsense (config.yaml ({work / 'config.yaml'})): no such setting",
        "draw_timeout = -1 (argument): give a number above 0",
        "max_threads = '0' (environment MILLSTREAM_MAX_THREADS): give a whole number from 1 to 1000",
        f"auto_login = true (environment LANGFLOW_AUTO_LOGIN): {too_open}",
    ]


@pytest.mark.parametrize("text", ["- max_threads: 8", "max_threads", "8"])
def test_a_config_yaml_that_is_not_a_mapping_is_refused(text: str, work: Path) -> None:
    (work / "config.yaml").write_text(text)
    told = "has to be a mapping of settings to values, as in `max_threads: 8`"
    assert problems() == [f"{work / 'config.yaml'}: {told}"]


@pytest.mark.parametrize("text", ["max_threads: [8", "a: b: c", "\t- x", "'", "? [a]\n: b", "a: 1\n---\nb: 2"])
def test_bad_yaml_is_one_line_that_does_not_quote_the_file(text: str, work: Path) -> None:
    (work / "config.yaml").write_text(f"superuser_password: hunter2\n{text}")
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert re.fullmatch(rf"{work / 'config.yaml'}, line \d+: not valid YAML: .+", str(caught.value))
    assert caught.value.__cause__ is None
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", [".env", "config.yaml"])
def test_a_file_that_is_not_text_is_one_line(name: str, work: Path) -> None:
    (work / name).write_bytes(b"MILLSTREAM_SUPERUSER=\xff\xfe\x00")
    (problem,) = problems()
    assert problem.startswith(f"{work / name}: ")


def test_a_directory_called_env_is_no_env_file(work: Path) -> None:
    (work / ".env").mkdir()
    assert Settings.load() == Settings()
    assert problems(env_file=".env") == [f"{work / '.env'}: there is no such .env file"]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_value_equal_to_the_default_is_never_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = getattr(Settings(), name)
    if default not in (None, ()):
        monkeypatch.setenv(f"MILLSTREAM_{name.upper()}", str(default))
        assert getattr(Settings.load(), name) == default


# ------------------------------------------------------------------------------------------------ Celery workers
def test_celery_and_a_redis_url_are_all_that_workers_take(work: Path) -> None:
    (work / "config.yaml").write_text("celery_enabled: true\nredis_url: redis://localhost:6379/0\n")
    settings = Settings.load()
    assert settings.celery_enabled
    assert settings.effective_broker_url == "redis://localhost:6379/0"


def test_a_broker_url_goes_before_redis_url_and_may_be_several() -> None:
    settings = Settings.load(broker_url="amqp://one, amqp://two", redis_url="redis://localhost")
    assert settings.effective_broker_url == "amqp://one;amqp://two"


@pytest.mark.parametrize("url", ["localhost:6379", "http://broker", "redis://one;two", "memory://"])
def test_a_broker_of_another_kind_is_refused_in_one_line(url: str) -> None:
    (problem,) = problems(broker_url=url)
    assert problem.endswith(
        "give redis://HOST:PORT/DATABASE or amqp://USER:PASSWORD@HOST/VHOST; several with ; between"
    )


@pytest.mark.parametrize("name", ["broker_url", "redis_url"])
@pytest.mark.parametrize("url", ["redis://localhost:6379/abc", "rediss://:secret@localhost/0/1?ssl_cert_reqs=none"])
def test_a_database_of_redis_that_is_no_number_is_refused_in_one_line(name: str, url: str) -> None:
    (problem,) = problems(celery_enabled=True, **{name: url})
    assert problem.startswith(f"{name} = ")
    assert "secret" not in problem
    assert problem.endswith("a database of Redis is a number; give redis://HOST:PORT/DATABASE, as in redis://HOST/0")


@pytest.mark.parametrize("url", ["redis://localhost", "redis://localhost/", "redis://:p@localhost:1/15?a=b/c"])
def test_a_database_of_redis_may_be_a_number_or_left_out(url: str) -> None:
    assert Settings.load(celery_enabled=True, redis_url=url).effective_broker_url == url


def test_celery_with_a_misspelt_broker_is_told_of_the_spelling_only() -> None:
    (problem,) = problems(celery_enabled=True, redis_urll="redis://localhost")
    assert problem == "redis_urll (argument): no such setting; did you mean redis_url?"


def test_celery_without_a_broker_is_refused_in_one_line() -> None:
    (problem,) = problems(celery_enabled=True)
    assert problem == (
        "celery_enabled = true (argument): needs a broker; set broker_url or redis_url, as in redis://localhost:6379/0"
    )
    with pytest.raises(SettingsError, match="needs a broker"):
        _ = Settings(celery_enabled=True).effective_broker_url


def test_jobs_in_memory_are_refused_where_workers_execute() -> None:
    (problem,) = problems(celery_enabled=True, redis_url="redis://localhost", durability="off")
    assert problem.startswith("durability = off (argument): such jobs end with their process")


@pytest.mark.parametrize(
    ("missing", "url"),
    [
        ("celery", "redis://localhost"),
        ("packaging", "redis://localhost"),
        ("redis", "amqp://one;sentinel://two"),
        ("amqp", "pyamqp://one"),
    ],
)
def test_a_package_that_the_broker_takes_and_is_not_there_is_told_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, missing: str, url: str
) -> None:
    monkeypatch.setattr(millstream.settings.celery, "find_spec", lambda name: None if name == missing else "there")
    (problem,) = problems(celery_enabled=True, broker_url=url)
    assert problem.endswith(f'needs {missing}; install it with pip install "millstream[celery]"')


def test_a_package_of_another_broker_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(millstream.settings.celery, "find_spec", lambda name: None if name == "redis" else "there")
    assert Settings.load(celery_enabled=True, broker_url="amqp://one").celery_enabled


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"redis_url": "redis://r/0"}, "redis://r/0"),
        ({"redis_url": "redis://r/0", "broker_url": "amqp://b"}, "redis://r/0"),
        ({"broker_url": "rediss://b/0?ssl_cert_reqs=none"}, "rediss://b/0?ssl_cert_reqs=none"),
        ({"broker_url": "rediss://b"}, "rediss://b?ssl_cert_reqs=required"),
        ({"broker_url": "amqp://b"}, None),
        ({"broker_url": "redis://one;redis://two"}, None),  # of which each would have some of the results
        ({"result_backend": "db+sqlite:///results.db", "redis_url": "redis://r/0"}, "db+sqlite:///results.db"),
    ],
)
def test_results_of_celery_tasks_are_in_the_redis_that_there_is_unless_it_is_said_where(
    settings: dict[str, str], expected: str | None
) -> None:
    assert Settings.load(celery_enabled=True, **settings).effective_result_backend == expected


def test_a_short_message_key_is_refused_and_no_key_is_shown() -> None:
    (problem,) = problems(message_key="s3cr3t")
    assert problem == "message_key = *** (argument): give at least 16 characters, the same to all processes"
    settings = Settings.load(message_key="s3cr3t" * 3)
    assert settings.message_secret == b"s3cr3t" * 3
    assert "s3cr3t" not in f"{settings} {settings.display('message_key')}"


# ------------------------------------------------------------------------------------------------ what is shown
@given(password=st.text(alphabet="ab@:/?#&=%' \n", max_size=12))
def test_no_password_is_ever_shown(password: str) -> None:
    secret = f"{password}s3cr3t"
    url = f"redis://me:{secret}@example.org:6379/1"
    settings = Settings(redis_url=url, superuser_password=secret)  # type: ignore[arg-type]
    assert settings.redis_url == url
    wrong = Settings.model_construct(redis_host=url)
    for shown in (
        settings.display("redis_url"),
        wrong.display("redis_host"),
        settings.display("superuser_password"),
        repr(settings),
        str(settings),
        "\n".join(problems(redis_url=url, superuser_password=secret, redis_host=url)),
        "\n".join(problems(redis_url=[url], superuser_password=[secret])),
    ):
        assert "s3cr3t" not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("redis_url", "redis://localhost:6379/1", "redis://localhost:6379/1"),
        ("redis_url", "rediss://:pw@host:6379/1", "rediss://***@host:6379/1"),
        ("database_url", "postgresql+psycopg://u:p@w@db/jobs", "postgresql+psycopg://***@db/jobs"),
        ("database_url", "postgresql:///jobs?user=u&password=pw&x=1", "postgresql:///jobs?user=u&password=***&x=1"),
        ("broker_url", "amqp://u:one@a;amqp://u:two@b", "amqp://***@b"),
        ("redis_queue_url", "redis://u:pw@host", "redis://***@host"),
        ("result_backend", "redis://u:pw@host", "redis://***@host"),
        ("superuser_password", "pw", "***"),
        ("superuser", "admin", "admin"),
        ("imports", "a,b", "a,b"),
        ("gunicorn_preload", "yes", "true"),
        ("draw_timeout", "3", "3.0"),
        ("config_dir", "conf@home", "conf@home"),
    ],
)
def test_a_value_is_displayed_as_one_would_write_it(name: str, value: str, shown: str) -> None:
    assert Settings.model_validate({name: value}).display(name) == shown


def test_what_is_not_set_is_displayed_so() -> None:
    assert {Settings().display(name) for name in ("imports", "redis_url", "superuser_password")} == {"not set"}


def test_displaying_an_unknown_setting_raises() -> None:
    with pytest.raises(AttributeError):
        Settings().display("nonsense")


# --------------------------------------------------------------------------------------------- what settings are
def test_made_directly_settings_read_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREADS", "7")
    (work / "config.yaml").write_text("max_segments: 7")
    settings = Settings(workers=3)
    assert (settings.max_threads, settings.max_segments) == (40, 1000)
    assert [name for name, source in settings.sources().items() if str(source) == "argument"] == ["workers"]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().workers = 2


def test_settings_and_their_sources_reach_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_IMPORTS", "shop.tasks")
    settings = Settings.load(max_threads=8)
    for copied in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings)):  # noqa: S301  our own bytes
        assert copied == settings
        assert copied.sources() == settings.sources()


@pytest.mark.parametrize("module", [millstream.settings, millstream.urls])
def test_the_examples_in_docstrings_are_true(module: ModuleType) -> None:
    tried = doctest.testmod(module)
    assert (tried.failed, tried.attempted > 0) == (0, True)


# -------------------------------------------------------------------------------------------- the reference page
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}


def test_the_page_lists_exactly_the_settings() -> None:
    assert sorted(ROWS) == sorted(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_page_tells_a_setting_as_it_is(name: str) -> None:
    _, variables, default, effect, *_ = ROWS[name]
    prefixes = ["MILLSTREAM_", "LANGFLOW_"] if name in OF_THE_GUIDES else ["MILLSTREAM_"]
    assert variables == ", ".join(f"`{prefix}{name.upper()}`" for prefix in prefixes)
    assert default.strip("`") == Settings().display(name)
    assert effect
