"""GUNICORN_CMD_ARGS: what is honoured, what is said to have no effect, and what does not start."""

from pathlib import Path

import pytest

from millstream.errors import SettingsError
from millstream.server.processes.options import configure
from millstream.server.processes.worker import ServerWorker
from millstream.settings import Settings

SETTINGS = Settings(workers=5, worker_timeout=120, drain_grace=7.5)


def test_gunicorns_settings_follow_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.setenv("WEB_CONCURRENCY", "9")
    config, said = configure(SETTINGS)
    assert said == []
    assert (config.workers, config.timeout, config.worker_class) == (5, 120, ServerWorker)
    assert config.graceful_timeout > SETTINGS.drain_grace, "a worker ends by itself, before it is killed"
    assert config.control_socket_disable
    assert not config.preload_app, "that is ours: it opens nothing in the master"


def test_what_concerns_the_processes_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "GUNICORN_CMD_ARGS",
        "--max-requests 100 --max-requests-jitter 20 --timeout 30 --pid server.pid --control-socket control.sock",
    )
    config, said = configure(SETTINGS)
    assert said == []
    assert (config.max_requests, config.max_requests_jitter, config.timeout) == (100, 20, 30)
    assert config.pidfile == "server.pid"
    assert (config.control_socket, config.control_socket_disable) == ("control.sock", False)


def test_they_are_taken_from_the_env_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "")
    (tmp_path / ".env").write_text('GUNICORN_CMD_ARGS="--max-requests 100 --max-requests-jitter 20"\n')
    (tmp_path / "other.env").write_text("GUNICORN_CMD_ARGS=--max-requests=7\n")
    config, _ = configure(Settings.load())
    assert (config.max_requests, config.max_requests_jitter) == (100, 20), "empty counts as not set"
    assert configure(Settings.load(env_file="other.env"))[0].max_requests == 7
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--max-requests 3")
    config, _ = configure(Settings.load())
    assert (config.max_requests, config.max_requests_jitter) == (3, 0), "the environment counts more, as a whole"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("-k uvicorn.workers.UvicornWorker", "GUNICORN_CMD_ARGS: --worker-class has no effect here"),
        ("--reuse-port", "GUNICORN_CMD_ARGS: --reuse-port has no effect here"),
        ("--workers 9", "GUNICORN_CMD_ARGS: --workers has no effect here; set MILLSTREAM_WORKERS"),
        ("--preload", "GUNICORN_CMD_ARGS: --preload has no effect here; set MILLSTREAM_GUNICORN_PRELOAD"),
        (
            "--graceful-timeout 90",
            "GUNICORN_CMD_ARGS: --graceful-timeout has no effect here; set MILLSTREAM_DRAIN_GRACE",
        ),
    ],
)
def test_what_is_not_gunicorns_to_decide_is_said_to_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, given: str, line: str
) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", given)
    config, said = configure(SETTINGS)
    assert said == [line]
    assert (config.workers, config.worker_class, config.reuse_port) == (5, ServerWorker, False)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("--bind 0.0.0.0:80", "--bind cannot be used; set MILLSTREAM_HOST and MILLSTREAM_PORT"),
        (
            "--daemon",
            "--daemon cannot be used; leave it to systemd, or to a container, to have it run in the background",
        ),
        (
            "--keyfile k.pem",
            "--keyfile cannot be used; put a proxy with TLS in front, and set MILLSTREAM_TRUSTED_PROXIES",
        ),
        ("--user nobody", "--user cannot be used; start the program as that user"),
        (
            "-c conf.py",
            "--config cannot be used; set what it says by settings of millstream, or as options in this variable",
        ),
        ("shop:app", "'shop:app' is no option; the application is millstream's own"),
        ("--max-requests many", "argument --max-requests: invalid int value: 'many'"),
        ("--max-requests -3", "--max-requests: Value must be positive: -3"),
        ("--max-request", "ambiguous option: --max-request could match --max-requests, --max-requests-jitter"),
        ("--no-such 3", "unrecognized arguments: --no-such"),
        ("'", "no closing quotation"),
        ("--help", "--help and --version start no server; leave them out"),
        ("-v", "--help and --version start no server; leave them out"),
        ("--worker-tmp-dir /not/there", "--worker-tmp-dir: /not/there is no directory that can be written"),
    ],
)
def test_what_cannot_be_honoured_is_one_line(monkeypatch: pytest.MonkeyPatch, given: str, line: str) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", given)
    with pytest.raises(SettingsError) as refused:
        configure(SETTINGS)
    assert str(refused.value) == f"GUNICORN_CMD_ARGS: {line}"
