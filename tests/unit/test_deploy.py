"""What lies in deploy/ is what its programs take: nothing here runs a container, so all of it is read instead."""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]  # PyYAML ships no types; the stubs may be installed or not
from dotenv import dotenv_values
from gunicorn.config import Config

from millstream.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("millstream:")]
SIZES = sorted(DEPLOY.glob("*.env"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
UNIT_ENV = DEPLOY / "systemd" / "millstream.env"

SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "RABBITMQ_PASSWORD", "MILLSTREAM_SUPERUSER_PASSWORD")
CONNECTIONS = 4
"""Of one server process to PostgreSQL, as it was measured."""

REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<word>[^}]*))?\})")

# Of systemd.unit(5), systemd.service(5), systemd.exec(5) and systemd.kill(5), what the units use.
KEYS = {
    "Unit": {"After", "Description", "StartLimitBurst", "StartLimitIntervalSec", "Wants"},
    "Service": {
        *("Type", "User", "Group", "Environment", "EnvironmentFile", "ExecStart", "ExecReload", "WorkingDirectory"),
        *("KillMode", "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus", "LimitNOFILE", "UMask"),
        *("StateDirectory", "StateDirectoryMode", "RemoveIPC", "CapabilityBoundingSet", "NoNewPrivileges"),
        *("RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve", "LockPersonality"),
        *("PrivateDevices", "PrivateTmp", "ProtectClock", "ProtectControlGroups", "ProtectHome", "ProtectHostname"),
        *("ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "ProtectSystem"),
        *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
        *("SystemCallArchitectures", "SystemCallFilter"),
    },
    "Install": {"WantedBy"},
}


def filled_in(size: Path) -> dict[str, str]:
    """Return the variables of an example of `.env`, with its passwords and with what it has commented out."""
    text = re.sub(r"^# (?=[A-Z_]+=)", "", size.read_text(encoding="utf-8"), flags=re.MULTILINE)
    copy = Path(size.name)  # each test has a working directory of its own
    copy.write_text(text, encoding="utf-8")
    variables = {name: value or "" for name, value in dotenv_values(copy).items()}
    return variables | dict.fromkeys(SECRETS, "5ecret5ecret")


def interpolated(value: object, variables: Mapping[str, str]) -> str:
    """Return a text of compose.yaml with the variables put in, as the Compose specification says."""

    def put_in(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        if given := variables.get(found["name"], ""):
            return given
        assert found["how"] != "?", f"{found['name']}: {found['word']}"
        return found["word"] or ""

    return REFERENCE.sub(put_in, str(value))


def environment(name: str, size: Path) -> dict[str, str]:
    """Return the variables that a service is started with on a host of this size."""
    variables, service = filled_in(size), SERVICES[name]
    from_file = variables if "env_file" in service else {}
    return from_file | {key: interpolated(value, variables) for key, value in service["environment"].items()}


def loaded(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that a process with these variables has."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return Settings.load()


def seconds(span: str) -> float:
    assert span.endswith("s")
    return float(span[:-1])


def entries(unit: Path) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value of each line of a unit."""
    section = ""
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            yield section, key, value


# ------------------------------------------------------------------------------------------------------- compose
def test_compose_yaml_is_what_the_specification_says() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_image_is_one_version_and_ours_is_this_one() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"])
    assert {SERVICES[name]["image"] for name in OURS} == {f"millstream:{PROJECT['version']}"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_looked_after_and_waits_for_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(service["healthcheck"]["timeout"]) <= seconds(service["healthcheck"]["interval"])
    for needed, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert set(SERVICES[needed].get("profiles", [])) <= set(service.get("profiles", []))


def test_without_a_profile_there_are_the_server_redis_and_postgresql_and_with_it_the_workers() -> None:
    of_workers = {name for name, service in SERVICES.items() if service.get("profiles") == ["workers"]}
    assert of_workers == {"worker", "rabbitmq"}
    assert SERVICES.keys() - of_workers == {"millstream", "redis", "postgres"}


def test_volumes_and_networks_are_those_that_are_used() -> None:
    whole = yaml.safe_load(COMPOSE)
    for kind in ("volumes", "networks"):
        used = {one.partition(":")[0] for service in SERVICES.values() for one in service.get(kind, [])}
        assert used == set(whole[kind])


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_may_nothing_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_nothing_but_the_server_can_be_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["millstream"]
    assert yaml.safe_load(COMPOSE)["networks"]["inside"] == {"internal": True}
    assert all(service["networks"] == ["inside"] for name, service in SERVICES.items() if name not in OURS)


@pytest.mark.parametrize("size", SIZES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", OURS)
def test_what_a_service_is_started_with_are_settings(name: str, size: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(environment(name, size), monkeypatch)
    assert settings.effective_job_queue_type == "redis"
    assert settings.effective_redis_queue_url == "redis://:5ecret5ecret@redis:6379/1"
    assert settings.effective_database_url == "postgresql://millstream:5ecret5ecret@postgres:5432/millstream"
    assert settings.celery_enabled  # its commented lines are read, too
    assert settings.effective_broker_url == "amqp://millstream:5ecret5ecret@rabbitmq:5672//"
    assert seconds(SERVICES[name]["stop_grace_period"]) > settings.drain_grace
    assert (settings.host, settings.port) == ("0.0.0.0", 7860) or name == "worker"  # noqa: S104  inside a container


@pytest.mark.parametrize("secret", SECRETS)
def test_without_a_password_nothing_starts(secret: str) -> None:
    variables = {name: value for name, value in filled_in(SIZES[0]).items() if name != secret}
    with pytest.raises(AssertionError, match=rf"{secret}: set it in \.env"):
        interpolated(COMPOSE, variables)
    assert not any(dotenv_values(size)[secret] for size in SIZES)


@pytest.mark.parametrize("size", SIZES, ids=lambda path: path.stem)
def test_all_processes_of_a_host_have_their_connections_to_postgresql(
    size: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(environment("millstream", size), monkeypatch)
    in_a_reload = 2 * settings.workers  # the new ones answer before the old ones leave
    in_reserve = 20  # for workers, and for people
    assert in_a_reload * CONNECTIONS + in_reserve <= int(filled_in(size)["POSTGRES_MAX_CONNECTIONS"])


@pytest.mark.parametrize("path", [*SIZES, UNIT_ENV], ids=lambda path: path.stem)
def test_the_arguments_of_gunicorn_are_its_own(path: Path) -> None:
    arguments = shlex.split(dotenv_values(path)["GUNICORN_CMD_ARGS"] or "")
    taken = Config().parser().parse_args(arguments)
    assert taken.max_requests >= 100
    assert taken.max_requests_jitter >= taken.max_requests // 5


def test_the_health_check_tells_a_server_that_serves_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([200, 503])

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(answers) if self.path == "/health_check" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    check = [sys.executable, "-I", str(DEPLOY / "healthy.py")]
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        monkeypatch.setenv("MILLSTREAM_PORT", str(server.server_port))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert [subprocess.run(check, check=False).returncode for _ in range(2)] == [0, 1]
        server.shutdown()
    assert subprocess.run(check, check=False).returncode == 1  # nobody listens any more


# ---------------------------------------------------------------------------------------------------- the image
def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments in one line."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_has_nothing_that_hadolint_complains_of() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular_and_without_what_built_it() -> None:
    last = max(number for number, (word, _) in enumerate(instructions()) if word == "FROM")
    stage = instructions()[last:]
    assert all(re.search(r":\d", rest) for word, rest in instructions() if word == "FROM")
    assert ("USER", "10001:10001") in stage
    assert "HEALTHCHECK" in dict(stage)
    assert not any(tool in rest for word, rest in stage if word == "RUN" for tool in ("apt-get", "pip", "curl", "gcc"))
    assert json.loads(dict(stage)["ENTRYPOINT"]) == ["millstream"]


def test_the_image_is_made_of_files_that_are_there_and_let_through() -> None:
    let_through = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch.fnmatch(source, pattern) for pattern in let_through)


def test_the_image_has_the_extras_that_the_stack_needs() -> None:
    for word, rest in instructions():
        if word == "RUN" and "uv sync" in rest:
            assert set(re.findall(r"--extra (\w+)", rest)) == {"server", "redis", "postgres", "celery"}
            assert "--locked" in rest


@pytest.mark.matrix
def test_the_steps_of_the_image_make_a_program_that_serves(tmp_path: Path) -> None:
    """Take the Dockerfile's first stage on this machine: what its context lets through, and its commands."""
    context, made = tmp_path / "source", tmp_path / "millstream"
    last = max(number for number, (word, _) in enumerate(instructions()) if word == "FROM")
    first_stage = instructions()[:last]
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(rest for word, rest in first_stage if word == "ENV")))
    programs = Path(sys.executable).parent
    variables |= {"UV_PROJECT_ENVIRONMENT": str(made), "PATH": f"{tmp_path}/tools/bin:{programs}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "tools"], check=True)
    context.mkdir()
    for word, rest in first_stage:
        if word == "COPY":
            sources = [str(ROOT / name) for name in rest.split()[:-1]]
            subprocess.run(["cp", "-r", *sources, str(context)], check=True)  # noqa: S607
        elif word == "RUN":
            subprocess.run(["sh", "-ec", rest], cwd=context, env=os.environ | variables, check=True)  # noqa: S607
    shutil.rmtree(context)  # the last stage has it no more
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    settings = {"MILLSTREAM_PORT": port, "MILLSTREAM_WORKERS": "2", "HOME": str(tmp_path)}
    program = subprocess.Popen([made / "bin" / "millstream", "serve"], cwd=tmp_path, env=os.environ | settings)
    try:
        check = [str(made / "bin" / "python"), "-I", str(DEPLOY / "healthy.py")]
        until = time.monotonic() + 120
        while subprocess.run(check, env=os.environ | settings, check=False).returncode:
            assert time.monotonic() < until
            assert program.poll() is None
    finally:
        program.terminate()
        program.wait(120)


# ------------------------------------------------------------------------------------------------------ systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_has_keys_that_systemd_knows_and_stops_after_what_runs_may_end(
    unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(key in KEYS[section] for section, key, _ in entries(unit))
    values = {key: value for _, key, value in entries(unit)}
    assert (values["Type"], values["KillMode"], values["Restart"]) == ("exec", "mixed", "always")
    assert values["ExecStart"].startswith("/opt/millstream/bin/millstream ")
    assert values["EnvironmentFile"] == f"/etc/millstream/{UNIT_ENV.name}"
    assert float(values["TimeoutStopSec"]) > loaded(filled_in(UNIT_ENV), monkeypatch).drain_grace


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd; the test above reads units")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path) -> None:
    program = "/opt/millstream/bin/millstream"
    Path(unit.name).write_text(unit.read_text(encoding="utf-8").replace(program, sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", f"./{unit.name}"],  # noqa: S607  wherever it lies
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_the_units_are_started_with_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(filled_in(UNIT_ENV), monkeypatch)
    assert settings.effective_job_queue_type == "redis"
    assert settings.celery_enabled
