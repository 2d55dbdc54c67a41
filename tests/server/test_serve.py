"""`millstream serve`: the program itself, as its user meets it."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.server.served import PATIENCE, Served, listening

WHOAMI = "/api/v1/users/whoami"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def served(directory: Path) -> Iterator[Served]:
    with Served(directory) as running:
        yield running


def test_a_first_start_says_a_password_once_and_the_next_says_none(directory: Path) -> None:
    with Served(directory, MILLSTREAM_AUTO_LOGIN="false") as first:
        password = first.find(r"the superuser is admin, with the password (\S+)")
        assert httpx.get(f"{first.url}{WHOAMI}", timeout=PATIENCE).status_code == 401
        assert first.stop() == 0
        assert first.said.count(password) == 1
    with Served(directory, MILLSTREAM_AUTO_LOGIN="false") as second:
        form = {"username": "admin", "password": password}
        signed_in = httpx.post(f"{second.url}/api/v1/login", data=form, timeout=PATIENCE)
        assert signed_in.status_code == 200
        assert "password" not in second.said


def test_a_password_that_is_set_is_nowhere_said(directory: Path) -> None:
    settings = {"LANGFLOW_SUPERUSER": "root", "LANGFLOW_SUPERUSER_PASSWORD": "changeme"}
    with Served(directory, **settings) as running:
        form = {"username": "root", "password": "changeme"}
        signed_in = httpx.post(f"{running.url}/api/v1/login", data=form, timeout=PATIENCE)
        assert signed_in.status_code == 200
        assert "changeme" not in running.said


def test_who_says_nothing_is_the_superuser_on_this_machine_alone(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        assert client.get(WHOAMI).json()["username"] == "admin"
        for said in (
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
            {"X-Forwarded-Proto": "http"},
            {"CF-Connecting-IP": "127.0.0.1"},
            {"Authorization": "Bearer wrong"},
        ):
            assert client.get(WHOAMI, headers=said).status_code == 401, said


def test_it_listens_once_and_ends_at_the_first_signal(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:  # its connection stays open
        client.get("/health")
        assert listening(served.process.pid) == 1
        assert served.stop() == 0
    assert "stopping" in served.said


def test_a_port_that_is_taken_is_one_line(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Served(directory, "--port", str(port)) as refused:
            assert refused.process.wait(PATIENCE) == 69
            assert refused.said.startswith(f"millstream: cannot listen on 127.0.0.1:{port}: ")
            assert refused.said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--host", "0.0.0.0"], {"MILLSTREAM_AUTO_LOGIN": "true"}, "auto_login = true"),  # noqa: S104  that it is refused
        ([], {"MILLSTREAM_AUTO_LOGIN": "true", "MILLSTREAM_TRUSTED_PROXIES": "10.0.0.1"}, "auto_login = true"),
        ([], {"MILLSTREAM_CORS_ORIGINS": "*", "MILLSTREAM_CORS_ALLOW_CREDENTIALS": "true"}, "cors_origins = *"),
        ([], {"MILLSTREAM_MESSAGE_KEY": "short"}, "message_key = ***"),
        ([], {"MILLSTREAM_SUPERUSER_PASSWORD": "short"}, "superuser_password = ***"),
    ],
)
def test_what_is_not_safe_or_not_there_yet_does_not_start(
    directory: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    with Served(directory, *arguments, **environment) as refused:
        assert refused.process.wait(PATIENCE) == 78
        assert refused.said.startswith(f"millstream: {said} (")
        assert refused.said.count("\n") == 1


@pytest.mark.matrix
@pytest.mark.parametrize(("host", "shown"), [("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_it_listens_to_the_name_or_address_that_is_given(directory: Path, host: str, shown: str) -> None:
    with Served(directory, "--host", host) as running:
        assert running.url.startswith(f"http://{shown}:")
        assert httpx.get(f"{running.url}{WHOAMI}", timeout=PATIENCE).json()["username"] == "admin"


def test_listening_to_the_network_without_tls_is_warned_of_and_needs_a_credential(directory: Path) -> None:
    with Served(directory, "--host", "0.0.0.0") as running:  # noqa: S104  that is what is tested
        port = running.url.rpartition(":")[2]
        assert running.said.count("without TLS") == 1
        assert httpx.get(f"http://127.0.0.1:{port}{WHOAMI}", timeout=PATIENCE).status_code == 401


def test_a_proxy_that_is_trusted_tells_who_comes_and_how(directory: Path) -> None:
    password = "correct horse"  # noqa: S105  of a user who lives as long as the test
    settings = {"MILLSTREAM_TRUSTED_PROXIES": "127.0.0.1", "MILLSTREAM_SUPERUSER_PASSWORD": password}
    form = {"username": "admin", "password": password}
    with Served(directory, **settings) as running, httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        by_tls = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1", "Host": "shop.example"}
        cookie = client.post("/api/v1/login", data=form, headers=by_tls).headers["Set-Cookie"]
        assert cookie.startswith("__Host-ms=")
        assert "Secure" in cookie
        assert client.get(WHOAMI).status_code == 401, "there is a proxy, so nobody is here"
        for number in range(6):
            wrong = client.post("/api/v1/login", data=form | {"password": f"{number}"}, headers=by_tls)
        assert wrong.status_code == 429
        other = by_tls | {"X-Forwarded-For": "192.0.2.2"}
        assert client.post("/api/v1/login", data=form, headers=other).status_code == 200


@pytest.mark.matrix
def test_without_a_trusted_proxy_nobody_is_believed_to_come_by_tls(served: Served) -> None:
    password = served.find(r"with the password (\S+)")
    answer = httpx.post(
        f"{served.url}/api/v1/login",
        data={"username": "admin", "password": password},
        headers={"X-Forwarded-Proto": "https"},
        timeout=PATIENCE,
    )
    assert answer.headers["Set-Cookie"].startswith("ms_session=")


def test_a_broker_that_is_away_is_no_reason_to_refuse_jobs(directory: Path) -> None:
    settings = {"MILLSTREAM_CELERY_ENABLED": "true", "MILLSTREAM_BROKER_URL": "redis://127.0.0.1:1/0"}
    with Served(directory, **settings) as running, httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        assert client.post("/run-task", json={"duration": 1}).status_code == 202
        until = time.monotonic() + PATIENCE
        while client.get("/health_check").json()["status"] == "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        answer = client.get("/health_check")
        assert (answer.status_code, answer.json()["outbox"]) == (200, "broker away")


def test_a_stream_ends_politely_with_the_server(directory: Path) -> None:
    wait = {"id": "wait", "data": {"component": "Wait", "values": {"seconds": 600}}}
    with Served(directory) as running, httpx.Client(base_url=running.url, timeout=PATIENCE) as client:
        flow = client.post("/api/v1/flows/", json={"name": "Slow", "data": {"nodes": [wait], "edges": []}}).json()["id"]
        job = client.post(f"/api/v1/build/{flow}/flow", json={}).json()["job_id"]
        kinds = ("application/x-ndjson", "text/event-stream")
        with ExitStack() as stack:
            streams = [
                stack.enter_context(
                    client.stream("GET", f"/api/v1/build/{job}/events", headers={"Accept": kind})
                ).iter_lines()
                for kind in kinds
            ]
            assert all(next(stream) for stream in streams)
            running.process.send_signal(signal.SIGTERM)
            assert all(isinstance(list(stream), list) for stream in streams), "they end, and are not cut off"
        assert running.process.wait(PATIENCE) == 0


def test_it_knows_the_flows_of_an_app_and_hands_on_what_runs(directory: Path) -> None:
    (directory / "shop.py").write_text(
        "import asyncio\n"
        "from millstream import flow, task\n"
        "@task\n"
        "async def sleep(): await asyncio.sleep(600)\n"
        "@flow\n"
        "def slow(): return sleep()\n"
    )
    shop = ("-A", "shop")
    with Served(directory, *shop, MILLSTREAM_DRAIN_GRACE="0.5") as first, httpx.Client(timeout=PATIENCE) as client:
        started = client.post(f"{first.url}/run-task", json={"task": "shop.slow"})
        assert started.status_code == 202, started.text
        job = f"/api/v1/jobs/{started.json()['task_id'].partition('.')[0]}"
        until = time.monotonic() + PATIENCE
        while client.get(f"{first.url}{job}").json()["state"] != "running":
            assert time.monotonic() < until
            time.sleep(0.02)
        assert first.stop() == 0
    with Served(directory, *shop, MILLSTREAM_DRAIN_GRACE="0.5") as second:
        answer = httpx.get(f"{second.url}{job}", timeout=PATIENCE)
        assert answer.json()["state"] in {"queued", "running"}, "it goes on"
        cancelled = httpx.post(f"{second.url}{job}/cancel", timeout=PATIENCE)
        assert cancelled.status_code in {200, 202}


@pytest.mark.matrix
def test_with_reload_it_starts_again_when_a_file_changes(directory: Path) -> None:
    module = directory / "shop.py"
    module.write_text("from millstream import task\n@task\ndef one(): return 1\n")
    with Served(directory, "-A", "shop", "--reload") as running:
        running.find(r"✓ millstream is ready at (http://\S+)")
        module.write_text("from millstream import task\n@task\ndef two(): return 2\n")
        running.find(r"✓ millstream is ready at (http://\S+)", count=2)
        assert running.stop() == 0


def test_with_reload_a_broken_file_is_one_line_and_a_repaired_one_is_served(directory: Path) -> None:
    module = directory / "shop.py"
    sound = "from millstream import task\n@task\ndef one(): return 1\n"
    module.write_text(sound)
    with Served(directory, "-A", "shop", "--reload") as running:
        running.find(r"✓ millstream is ready at (http://\S+)")
        put(module, sound.replace("()", "("))
        running.find(r"(millstream: shop.py:3: SyntaxError: .+)\n")
        put(module, sound)
        running.find(r"✓ millstream is ready at (http://\S+)", count=2)
        assert running.stop() == 0
        ours = ("first start: ", "✓ millstream is ready at ", "stopping: ", "millstream: shop.py:3: ")
        assert [line for line in running.said.splitlines() if not line.startswith(ours)] == []


def put(path: Path, text: str) -> None:
    """Replace a file at once, as editors do: whoever watches it sees it whole, and one change."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)
