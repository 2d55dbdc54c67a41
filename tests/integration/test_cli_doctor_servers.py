"""What the doctor says of the servers that the settings name: the event log's, the broker; and of other processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from millstream import Millstream, Settings
from millstream.cli.servers import check_event_log, look_at_broker, look_at_event_log
from millstream.errors import SettingsError
from tests.integration.cli_program import millstream as run
from tests.lifeline import free_port
from tests.valkey import ValkeyServer


def test_the_doctor_asks_the_event_log_and_the_broker(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    variables = {"MILLSTREAM_CELERY_ENABLED": "true", "MILLSTREAM_REDIS_URL": valkey_server.url_of(0)}
    done = run("doctor", "--json", cwd=tmp_path, **variables)
    told = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert told["event log"]["detail"].startswith(f"{valkey_server.url_of(1)}, Valkey ")
    assert told["event log"]["detail"].endswith(" ms, no maxmemory")
    assert told["broker"]["detail"] == valkey_server.url_of(0)
    valkey_server.stop()
    done = run("doctor", cwd=tmp_path, **variables)
    assert done.returncode == 1
    for check in ("event log", "broker"):
        assert f"✗   {check}" in done.stdout


def test_passwords_of_redis_are_shown_nowhere(tmp_path: Path) -> None:
    url = f"redis://me:s3cr3t@127.0.0.1:{free_port()}/1"
    variables = {"MILLSTREAM_JOB_QUEUE_TYPE": "redis", "MILLSTREAM_REDIS_QUEUE_URL": url, "MILLSTREAM_REDIS_URL": url}
    for command in (["doctor"], ["config", "show", "--sources"], ["config", "show", "--json"]):
        done = run(*command, cwd=tmp_path, **variables)
        assert "redis://***@127.0.0.1:" in done.stdout
        assert "s3cr3t" not in done.stdout + done.stderr


def test_the_doctor_advises_where_events_in_use_would_be_evicted_and_where_the_broker_is(
    valkey_server: ValkeyServer,
) -> None:
    settings = Settings(celery_enabled=True, redis_url=valkey_server.url_of(1))
    with valkey_server.client() as client:
        client.config_set("maxmemory", "64mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = look_at_event_log(settings)
    assert finding.is_ok
    assert "allkeys-lru, tokens of running jobs may be evicted: set maxmemory-policy volatile-lru" in finding.detail
    assert finding.detail.endswith("in the broker's database: set redis_queue_db")
    with valkey_server.client() as client:
        client.config_set("maxmemory-policy", "volatile-lru")
    (finding,) = look_at_event_log(settings)
    assert ", volatile-lru, in the broker's" in finding.detail


def test_a_redis_that_takes_nothing_is_a_finding(valkey_server: ValkeyServer) -> None:
    valkey_server.fill()
    (finding,) = look_at_event_log(Settings(job_queue_type="redis", redis_queue_url=valkey_server.url_of(1)))
    assert not finding.is_ok
    assert "command not allowed when used memory > 'maxmemory'" in finding.detail


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("127.0.0.1:{port}/99", "DB index is out of range"),
        ("app:wrong@127.0.0.1:{port}/0", "invalid username-password pair or user is disabled"),
        ("app:secret@127.0.0.1:{port}/0", "app has no permissions to run the 'set' command"),
    ],
)
def test_a_redis_that_refuses_what_the_settings_say_is_a_wrong_setting(
    valkey_server: ValkeyServer, tmp_path: Path, place: str, why: str
) -> None:
    with valkey_server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-set")
    url = f"redis://{place.format(port=valkey_server.port)}"
    variables = {"MILLSTREAM_JOB_QUEUE_TYPE": "redis", "MILLSTREAM_REDIS_QUEUE_URL": url}
    for command in (["serve", "--port", "0"], ["worker", "-A", "millstream.library.chat"]):
        done = run(*command, cwd=tmp_path, **variables)
        assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
        assert done.stderr.startswith("millstream: the event log cannot use Redis at redis://")
        assert why in done.stderr
        assert "wrong@" not in done.stderr


def test_a_redis_that_wants_a_password_and_gets_none_is_a_wrong_setting(valkey_server: ValkeyServer) -> None:
    with valkey_server.client() as client:
        client.config_set("requirepass", "secret")
    settings = Settings(job_queue_type="redis", redis_queue_url=valkey_server.url_of(0))
    with pytest.raises(SettingsError, match="Authentication required; correct redis_queue_url"):
        check_event_log(settings)


def test_a_redis_that_is_away_or_full_keeps_nobody_from_starting(valkey_server: ValkeyServer) -> None:
    settings = Settings(job_queue_type="redis", redis_queue_url=valkey_server.url_of(0))
    valkey_server.fill()
    check_event_log(settings)
    valkey_server.stop()
    check_event_log(settings)
    check_event_log(Settings())


async def test_processes_that_have_another_event_log_are_named(tmp_path: Path, valkey_url: str) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    mine = Settings(database_url=url, job_queue_type="redis", redis_queue_url=valkey_url)
    async with Millstream(settings=Settings(database_url=url)) as other:
        await other.accounts()
        (finding,) = look_at_event_log(mine)
        assert not finding.is_ok
        assert finding.detail.startswith(f"redis here, but process {os.getpid()} on ")
        assert finding.detail.endswith("uses asyncio; set job_queue_type the same in all")
        assert list(look_at_event_log(Settings(database_url=url))) == []
    (finding,) = look_at_event_log(mine)
    assert finding.is_ok


def test_without_workers_and_redis_no_server_is_asked() -> None:
    assert [*look_at_event_log(Settings()), *look_at_broker(Settings())] == []
