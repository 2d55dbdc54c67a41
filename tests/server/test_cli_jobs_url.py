"""`millstream jobs … --url` says of a server's jobs what it says of a ledger's."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest

from millstream.server.access.principal import SCOPES
from tests.integration.cli_program import millstream
from tests.server.flow_cases import ECHO
from tests.server.running import PATIENCE, RunningServer

TASKS = "tests.server.job_flows"
UNKNOWN = "00000000-0000-7000-8000-000000000000"

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": [TASKS]}


@pytest.fixture(scope="module")
def key(sign_in: Callable[[str], httpx.Client]) -> str:
    """A superuser's API key."""
    answer = sign_in("admin").post("/api/v1/api_key/", json={"name": "cli", "scopes": [*SCOPES]})
    return str(answer.json()["api_key"])


@pytest.fixture
def run(server: RunningServer, key: str, tmp_path: Path) -> Run:
    """Runs the program against the server, in a directory without a ledger."""

    def run(*arguments: str, url: str = server.url, api_key: str = key) -> CompletedProcess[str]:
        return millstream("jobs", *arguments, "--url", url, cwd=tmp_path, MILLSTREAM_API_KEY=api_key)

    return run


@pytest.fixture
def here(server: RunningServer, tmp_path: Path) -> Run:
    """Runs the program on the server's ledger itself."""

    def run(*arguments: str) -> CompletedProcess[str]:
        directory = str(server.site.settings.config_dir)
        return millstream("jobs", *arguments, cwd=tmp_path, MILLSTREAM_CONFIG_DIR=directory)

    return run


def made(client: httpx.Client, name: str, *args: object, until: str) -> str:
    job_id = str(client.post("/run-task", json={"task": f"{TASKS}.{name}", "args": args}).json()["task_id"])
    await_state(client, job_id, until)
    return job_id


def await_state(client: httpx.Client, job_id: str, state: str) -> None:
    end = time.monotonic() + PATIENCE
    while client.get(f"/api/v1/jobs/{job_id}").json()["state"] != state:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def failed(sign_in: Callable[[str], httpx.Client]) -> str:
    """A job that failed, before one that succeeded."""
    admin = sign_in("admin")
    failed = made(admin, "failing", 3, until="failed")
    made(admin, "steps", 3, until="succeeded")
    return failed


@pytest.mark.parametrize(
    "command",
    [
        ["list", "--dead", "--since", "1h"],
        ["show", "{job}"],
        ["events", "{job}", "--json", "--after", "1-0"],
        *(
            pytest.param(command, marks=pytest.mark.matrix)
            for command in (
                ["list", "--json"],
                ["list", "--limit", "1"],
                ["list", "--state", "failed", "--flow", "failing", "--reason", "error", "--before", "2100-01-01"],
                ["list", "--after-id", "{job}"],
                ["show", "{job}", "--json"],
                ["show", "{job}.fail"],
                ["events", "{job}"],
                ["logs", "{job}"],
            )
        ),
    ],
)
def test_a_servers_jobs_are_told_as_those_of_its_ledger(run: Run, here: Run, failed: str, command: list[str]) -> None:
    arguments = [argument.replace("{job}", failed) for argument in command]
    local, remote = here(*arguments), run(*arguments)
    assert (remote.returncode, remote.stdout, remote.stderr) == (0, local.stdout, local.stderr)


def test_a_job_is_found_by_its_beginning(run: Run, failed: str) -> None:
    assert json.loads(run("show", failed[:23], "--json").stdout)["job_id"] == failed


def test_a_job_is_followed_to_its_end(run: Run, admin: httpx.Client) -> None:
    job_id = str(admin.post("/run-task", json={"duration": 0.5}).json()["task_id"])
    events = [json.loads(line)["type"] for line in run("events", job_id, "--follow", "--json").stdout.splitlines()]
    assert (events[0], events[-1]) == ("planned", "ended")


def test_a_servers_jobs_are_cancelled_retried_answered_and_purged(run: Run, admin: httpx.Client) -> None:
    waiting, failed = made(admin, "ask", "when?", until="waiting"), made(admin, "failing", 1, until="failed")
    assert run("approve", waiting, "--answer", "4").stdout == f"{waiting}  approval  is answered\n"
    other = made(admin, "ask", "how?", until="waiting")
    said = run("cancel", other).stdout  # on a busy machine it may take longer to stop than the answer waits
    assert re.fullmatch(rf"{other}  (cancelled|asked to stop; it is still (running|waiting))\n", said), said
    await_state(admin, other, "cancelled")
    told = json.loads(run("retry", failed, "--json").stdout)
    assert (told["is_done"], told["said"]) == (True, f"goes on as {told['new_job_id']}")
    again = run("retry", "--dead", "--flow", f"{TASKS}.failing", "--yes")
    assert f"{failed}  was retried before, as {told['new_job_id']}; name it to retry it once more" in again.stdout
    purged = run("purge", failed, UNKNOWN)
    assert (purged.returncode, f"{failed}  purged\n" in purged.stdout) == (2, True)
    assert f"{UNKNOWN}  there is no job '{UNKNOWN}'\n" in purged.stdout


def test_what_is_not_there_or_not_allowed_is_one_line(run: Run) -> None:
    unknown = run("show", UNKNOWN)
    assert (unknown.returncode, unknown.stderr) == (2, f"millstream: there is no job '{UNKNOWN}'\n")
    refused = run("list", api_key="ms_x_y")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "does not know who asks: give --api-key, or set MILLSTREAM_API_KEY" in refused.stderr


def test_a_server_that_is_away_is_one_line(run: Run) -> None:
    away = run("list", url="http://127.0.0.1:9")
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (69, "", 1)
    assert "http://127.0.0.1:9 does not answer as it should" in away.stderr


def test_a_url_without_a_scheme_is_told_as_such(run: Run) -> None:
    done = run("list", url="localhost:7860")
    assert done.returncode == 2
    assert (
        done.stderr
        == "millstream: the URL of a server begins with http:// or https://, and 'localhost:7860' does not\n"
    )


def test_the_flows_of_jobs_are_shown_with_what_people_call_them(run: Run, here: Run, admin: httpx.Client) -> None:
    flow_id = admin.post("/api/v1/flows/", json={"name": "the answers", "data": ECHO}).json()["id"]
    assert admin.post(f"/api/v1/run/{flow_id}", json={"input_value": "x"}).status_code == 200
    listed = ("list", "--flow", f"flow:{flow_id}")
    told = json.loads(run(*listed, "--json").stdout)
    assert [job["flow_name"] for job in told] == ["the answers"]
    for command in (listed, ("show", told[0]["job_id"])):
        local, remote = here(*command).stdout, run(*command).stdout
        assert local == remote
        assert f"the answers  flow:{flow_id}" in local
