"""The settings, signals, states and exceptions of `millstream.compat`: Celery's names, and what becomes of them."""

import gc
import pickle
import re
import subprocess
import sys
import types
import warnings
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from millstream import errors
from millstream.compat import NotYetWarning, exceptions, signals, states
from millstream.compat.conf import Conf
from millstream.compat.conf_catalogue import NAMES, SETTINGS, Standing
from millstream.compat.dispatch import Signal
from millstream.compat.exceptions import ImproperlyConfigured
from scripts import celery_settings


# -------------------------------------------------------------------------------------------------------- settings
def test_a_setting_has_one_value_under_all_its_names() -> None:
    conf = Conf()
    conf["CELERY_ALWAYS_EAGER"] = True
    assert conf.task_always_eager is conf["CELERY_TASK_ALWAYS_EAGER"] is True
    assert conf.worker_prefetch_multiplier == 4
    assert len(set(NAMES.values())) == len(SETTINGS) == 207


def test_every_setting_says_what_becomes_of_it() -> None:
    assert {setting.standing for setting in SETTINGS.values()} == set(Standing)
    assert all(len(setting.says) > 10 for setting in SETTINGS.values())


def test_the_page_about_moving_says_of_every_setting_what_the_code_says() -> None:
    page = celery_settings.PAGE.read_text(encoding="utf-8")
    assert page == celery_settings.written(page)
    assert all(f"`{name}`" in page for name in SETTINGS)


def test_a_foreign_dict_is_taken_with_the_keys_that_are_not_celerys() -> None:
    conf = Conf()
    conf.update({"SECRET_KEY": "x", "DEBUG": False, "CELERY_BROKER_URL": "redis://h/0"})
    assert conf.broker_url == "redis://h/0"
    assert conf["SECRET_KEY"] == "x"  # noqa: S105  no password
    assert [line.name for line in conf.report()] == ["broker_url"]


@pytest.mark.parametrize(
    ("name", "near"), [("task_always_eagar", "task_always_eager"), ("worker_frob", "none of this")]
)
def test_a_misspelt_setting_is_refused_with_what_comes_near(name: str, near: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=near):
        Conf().update({name: True})
    with pytest.raises(ImproperlyConfigured, match=near):
        setattr(Conf(), name, True)


@pytest.mark.parametrize(
    ("namespace", "name", "near"),
    [
        ("CELERY", "CELERY_TASK_TIME_LIMITS", "did you mean 'CELERY_TASK_TIME_LIMIT'"),
        (None, "CELERY_TASK_TIME_LIMITS", "did you mean 'CELERY_TASK_TIME_LIMIT'"),
        (None, "CELERYD_TASK_TIME_LIMITT", "did you mean 'CELERYD_TASK_TIME_LIMIT'"),
        ("SHOP", "SHOP_BROKER_URLL", "did you mean 'SHOP_BROKER_URL'"),
    ],
)
def test_a_misspelt_setting_in_capitals_is_refused_too(namespace: str | None, name: str, near: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=near):
        Conf(namespace).update({name: 3})
    read = Conf(namespace)
    read.read_later({name: 3})
    for _ in range(2):  # what could not be read is not taken for read
        with pytest.raises(ImproperlyConfigured, match=near):
            _ = read.timezone


@pytest.mark.parametrize(
    "name", ["TASK_TIME_LIMITS", "CELERY_RESULT_BACKEND_DB", "CELERY_TASK_TIME_LIMIT_LONG", "CELERY"]
)
def test_names_in_capitals_that_are_somebody_elses_are_left_alone(name: str) -> None:
    conf = Conf("CELERY")
    conf.update({name: 3})
    assert conf[name] == 3
    assert conf.report() == []


def test_an_old_name_counts_beside_a_namespace() -> None:
    conf = Conf("CELERY")
    conf.read_later({"CELERY_ALWAYS_EAGER": True, "CELERY_TASK_TIME_LIMIT": 3})
    assert (conf.task_always_eager, conf.task_time_limit) == (True, 3)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("task_time_limit", "abc", "a number of seconds over 0, or None"),
        ("CELERYD_TASK_SOFT_TIME_LIMIT", 0, "a number of seconds over 0, or None"),
        ("task_always_eager", "false", "True or False"),
        ("task_default_priority", 10, "a whole number from 0 to 9, or None"),
        ("task_default_queue", None, "a queue's name"),
        ("timezone", "Europe/Nowhere", "the name of a time zone"),
        ("include", [1], "a list of modules' names"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_where_it_is_set(name: str, value: object, kind: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^{NAMES[name]} is {re.escape(repr(value))}; it must be {kind}"):
        Conf().update({name: value})


def test_every_kind_that_celery_takes_is_taken() -> None:
    given = {
        "task_time_limit": 0.5,
        "task_soft_time_limit": None,
        "task_always_eager": 1,
        "task_default_priority": 9,
        "task_default_queue": "gpu",
        "timezone": UTC,
        "include": ("a", "b"),
        "imports": "a",
    }
    conf = Conf()
    conf.update(given)
    assert {name: conf[name] for name in given} == given


def test_a_setting_that_is_not_there_yet_is_told_of_once() -> None:
    conf = Conf()
    with pytest.warns(NotYetWarning, match="beat_schedule is not there yet: schedules") as told:
        conf.beat_schedule = {"nightly": {}}
    assert told[0].filename == __file__  # the line that set it, however deep the call
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conf.beat_schedule = {}
    assert conf.report()[0].standing is Standing.NOT_YET


def test_settings_are_read_from_an_object_only_when_one_is_asked_for() -> None:
    module = types.ModuleType("settings_of_test")
    vars(module).update(CELERY_TASK_TIME_LIMIT=9, CELERY_UNKNOWN=1, OTHER=2, _hidden=3)
    sys.modules["settings_of_test"] = module
    conf, told = Conf("CELERY"), list[Any]()
    conf.after_reading(told.append)
    conf.read_later("settings_of_test")
    assert not told
    assert conf.task_time_limit == 9
    assert told == ["settings_of_test"]
    assert [line.name for line in conf.report()] == ["task_time_limit"]
    conf.task_time_limit = 5
    assert conf.task_time_limit == 5


def test_a_module_of_settings_that_is_not_there_is_named() -> None:
    conf = Conf()
    conf.read_later("no_such_settings")
    with pytest.raises(ImproperlyConfigured, match="no_such_settings"):
        _ = conf.timezone


def test_the_environment_names_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/0")
    assert Conf().broker_url == "redis://elsewhere/0"


def test_secrets_are_shown_as_stars() -> None:
    conf = Conf()
    conf.update(broker_url="amqp://admin:secret@host//", redis_password="hidden")  # noqa: S106  that is the point
    assert "secret" not in conf.humanize()
    assert not any("hidden" in str(line) or "secret@" in str(line) for line in conf.report())
    assert conf.table(censored=False)["redis_password"] == "hidden"  # noqa: S105  as above


# --------------------------------------------------------------------------------------------------------- signals
def test_receivers_hear_the_sender_that_they_asked_for() -> None:
    signal, heard = Signal({"x"}, name="test"), list[Any]()
    first, second = object(), object()

    @signal.connect(sender=first)
    def receive(x: int, **_: Any) -> int:
        heard.append(x)
        return x

    assert signal.send(first, x=1) == [(receive, 1)]
    assert signal.send(second, x=2) == []
    assert heard == [1]
    assert signal.disconnect(receive, sender=first)
    assert not signal.has_listeners(first)


def test_a_receiver_that_raises_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    signal, heard = Signal(name="test"), list[str]()

    def bad(**_: Any) -> None:
        raise RuntimeError("bad")

    def good(**_: Any) -> None:
        heard.append("good")

    signal.connect(bad)
    signal.connect(good)
    (_, error), _ = signal.send(None)
    assert isinstance(error, RuntimeError)
    assert heard == ["good"]
    assert "signal test" in caplog.text


def test_a_receiver_that_nothing_holds_is_forgotten_unless_it_is_held() -> None:
    signal = Signal(name="test")
    signal.connect(lambda **_: None)
    signal.connect(lambda **_: None, weak=False)
    gc.collect()
    assert len(signal.receivers) == 1


def test_a_receiver_is_connected_once_for_each_uid() -> None:
    signal, heard = Signal(name="test"), list[str]()
    one = signal.connect(lambda **_: heard.append("one"), weak=False, dispatch_uid="x")
    signal.connect(lambda **_: heard.append("two"), weak=False, dispatch_uid="x")
    signal.send(None)
    assert heard == ["one"]
    assert one is not None
    assert signal.disconnect(dispatch_uid="x")


def test_a_receiver_must_take_arguments_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="keyword arguments"):
        Signal().connect(lambda sender: sender)


def test_signals_that_are_never_sent_exist() -> None:
    assert all(isinstance(getattr(signals, name), Signal) for name in signals.NEVER_SENT)
    assert not signals.NEVER_SENT & {"task_prerun", "task_postrun", "worker_ready", "import_modules"}


# ------------------------------------------------------------------------------------------------------ exceptions
@pytest.mark.parametrize(
    ("name", "raised"),
    [
        ("MaxRetriesExceededError", errors.MaxRetriesExceededError),
        ("TaskRevokedError", errors.TaskRevokedError),
        ("TimeoutError", errors.ResultTimeoutError),
        ("TimeLimitExceeded", errors.TaskTimeoutError),
        ("SoftTimeLimitExceeded", errors.SoftTimeLimitExceeded),
        ("WorkerLostError", errors.ProcessDiedError),
        ("NotRegistered", errors.UnknownNameError),
        ("ImproperlyConfigured", errors.SettingsError),
        ("Ignore", errors.Ignore),
        ("Reject", errors.Reject),
        ("CeleryError", errors.JobFailedError),
    ],
)
def test_what_millstream_raises_is_caught_under_celerys_name(name: str, raised: type[Exception]) -> None:
    with pytest.raises(getattr(exceptions, name)):
        raise raised("told")


def test_a_retry_can_be_sent_elsewhere() -> None:
    retry = exceptions.Retry("later", ValueError("x"), 3)
    again = pickle.loads(pickle.dumps(retry))  # noqa: S301  its own
    assert (str(again), again.when, again.delay, repr(again.exc)) == ("later", 3, 3, "ValueError('x')")
    assert isinstance(again, errors.Retry)


def test_states_compare_by_what_counts_most() -> None:
    assert states.state("PENDING") < states.state("PROGRESS") < states.state("SUCCESS")
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    assert states.READY_STATES.isdisjoint(states.UNREADY_STATES)


# ------------------------------------------------------------------------------------------------ without Celery
def test_nothing_of_celery_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys, importlib\n"
        "sys.modules['celery'] = None\n"
        "for name in ('', '.app', '.app.task', '.canvas', '.result', '.exceptions', '.signals', '.states',"
        " '.schedules', '.utils', '.utils.log'):\n"
        "    importlib.import_module('millstream.compat' + name)\n"
        "assert not {'kombu', 'sqlalchemy', 'redis', 'pytest'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=tmp_path)


def test_periodic_tasks_are_told_of() -> None:
    from millstream.compat import Celery  # noqa: PLC0415  kept out of the tests above
    from millstream.compat.schedules import crontab  # noqa: PLC0415  as above

    app = Celery("beat", set_as_current=False)
    with pytest.warns(NotYetWarning, match=r"crontab\(minute=0\)"):
        app.add_periodic_task(crontab(minute=0), "sig")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert crontab(minute=0) == crontab(minute=0)
