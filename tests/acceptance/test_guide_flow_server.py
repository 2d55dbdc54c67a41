"""The walk of a guide to flow servers, command by command: as printed, but for the port and the ids.

It runs in an empty directory and with nothing in the environment but what the guide sets.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.lifeline import descriptors, end_with_parent, free_port

PATIENCE = 120.0
GUIDE_PORT, GUIDE_FLOW, GUIDE_JOB = (
    "7860",
    "af7dc029-279e-4742-8419-1ac23898afdd",
    "1af960e9-12d5-48ec-9860-8a90a16f0b55",
)

_LISTENS = "0A"  # TCP_LISTEN, as in Linux's include/net/tcp_states.h

SIGN_IN = """TOKEN=$(curl -s -X POST http://localhost:7860/api/v1/login \\
-H "Content-Type: application/x-www-form-urlencoded" \\
-d "username=admin&password=changeme" \\
| python3 -c "import sys,json; print(json.load(sys.stdin)['access_token'])")
"""

MONITOR = """curl -s -H "Authorization: Bearer $TOKEN" \\
http://localhost:7860/api/v1/monitor/job_queue | python3 -m json.tool
"""

BUILD = """curl -s -X POST "http://localhost:7860/api/v1/build/af7dc029-279e-4742-8419-1ac23898afdd/flow" \\
-H "Authorization: Bearer $TOKEN" \\
-H "Content-Type: application/json" \\
-d '{"inputs": {"input_value": "hello"}, "stream": false}' | python3 -m json.tool
"""

CANCEL = """curl -s -X POST http://localhost:7860/api/v1/build/1af960e9-12d5-48ec-9860-8a90a16f0b55/cancel \\
-H "Authorization: Bearer $TOKEN" | python3 -m json.tool
"""

EVENTS = """curl -sN -H "Authorization: Bearer $TOKEN" \\
"http://localhost:7860/api/v1/build/1af960e9-12d5-48ec-9860-8a90a16f0b55/events?event_delivery=streaming"
"""

KEEP = """curl -s -X POST http://localhost:7860/api/v1/flows/ \\
-H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d @flow.json
"""

CHAT = {
    "name": "chat",
    "data": {
        "nodes": [{"id": name, "data": {"component": name}} for name in ("ChatInput", "ChatOutput")],
        "edges": [
            {
                "source": "ChatInput",
                "sourceHandle": "message",
                "target": "ChatOutput",
                "targetHandle": "input_value",
            }
        ],
    },
}
WAITS = {
    "name": "waits",
    "data": {"nodes": [{"id": "wait", "data": {"component": "Wait", "values": {"seconds": 3600}}}], "edges": []},
}


class Machine:
    """A machine with nothing on it but a server, curl and Python.

    Attributes:
        home: The directory in which everything runs.
        port: Where the server listens.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self._ids = {GUIDE_PORT: str(self.port)}
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
        }
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process; with several, their master."""
        assert self._server is not None
        return self._server.pid

    def serve(self, **variables: str) -> None:
        """Start the server, and wait until it says that it is ready."""
        with (self.home / "said").open("ab") as said:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "millstream", "serve", "--port", str(self.port)],
                cwd=self.home,
                env=self._environment | variables,
                stdout=said,
                stderr=said,
                preexec_fn=end_with_parent,  # noqa: PLW1509  it asks the kernel for something, and takes no lock
            )
        self.run(
            f"curl -s --retry 1200 --retry-delay 0 --retry-connrefused --retry-max-time {PATIENCE:g}"
            " http://localhost:7860/health"
        )

    def meant(self, printed: str, ours: str) -> None:
        """Put an id of ours in place of one that is printed in the guide."""
        self._ids[printed] = ours

    def run(self, command: str) -> str:
        """Run a command of the guide, and return what it prints."""
        done = subprocess.run(
            ["/bin/bash", "-c", self.ours(command)],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            timeout=PATIENCE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}\n{self.said()}"
        return done.stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Begin a command of the guide, and return its process."""
        return subprocess.Popen(
            ["/bin/bash", "-c", self.ours(command)],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  as above
        )

    def ours(self, command: str) -> str:
        """Return a command of the guide with our port and our ids."""
        return re.sub("|".join(self._ids), lambda found: self._ids[found[0]], command)

    def said(self) -> str:
        """Return what the server said."""
        return (self.home / "said").read_text(encoding="utf-8", errors="replace")

    def listening(self) -> list[int]:
        """Return the ports that the server listens on."""
        assert self._server is not None
        process = Path(f"/proc/{self._server.pid}")
        links = [link for _, link in descriptors(self._server.pid)]
        found = []
        for table in ("tcp", "tcp6"):
            for line in (process / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and f"socket:[{fields[9]}]" in links:
                    found.append(int(fields[1].rpartition(":")[2], 16))
        return found

    def stop(self) -> int:
        """End the server in order, and return its exit code."""
        server, self._server = self._server, None
        if server is None:
            return 0
        server.send_signal(signal.SIGTERM)
        return server.wait(PATIENCE)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


def signed_in(machine: Machine, sign_in: str = SIGN_IN) -> str:
    """Sign in as the guide does, and return what stands for that in the next commands: one terminal keeps its token."""
    return f"TOKEN={machine.run(sign_in + 'echo $TOKEN').strip()}\n"


def kept(machine: Machine, signed: str, flow: dict[str, Any]) -> str:
    """Give the server a flow, and return its id."""
    (machine.home / "flow.json").write_text(json.dumps(flow), encoding="utf-8")
    flow_id: str = json.loads(machine.run(signed + KEEP))["id"]
    return flow_id


def test_the_walk_passes_as_printed(machine: Machine) -> None:
    machine.serve(
        LANGFLOW_SUPERUSER="admin",
        LANGFLOW_SUPERUSER_PASSWORD="changeme",  # noqa: S106  as the guide has it
        LANGFLOW_AUTO_LOGIN="False",
    )
    assert machine.listening() == [machine.port]
    signed = signed_in(machine)
    assert json.loads(machine.run(signed + MONITOR)) == {"backend": "asyncio", "active_jobs": 0}

    machine.meant(GUIDE_FLOW, kept(machine, signed, CHAT))
    job = json.loads(machine.run(signed + BUILD))
    assert [*job] == ["job_id"]
    machine.meant(GUIDE_JOB, str(UUID(job["job_id"])))
    told = [json.loads(line) for line in machine.run(signed + EVENTS).split("\n\n") if line]
    assert [event["event"] for event in told][:2] == ["vertices_sorted", "build_start"]
    assert told[-1]["event"] == "end"
    assert told[-1]["data"]["status"] == "succeeded"
    assert any("hello" in json.dumps(event) for event in told if event["event"] == "add_message")

    machine.meant(GUIDE_FLOW, kept(machine, signed, WAITS))
    job = json.loads(machine.run(signed + BUILD))
    assert [*job] == ["job_id"], job
    machine.meant(GUIDE_JOB, job["job_id"])
    reading = machine.begin(signed + EVENTS)
    assert reading.stdout is not None
    assert json.loads(reading.stdout.readline())["event"] == "vertices_sorted"
    for _ in range(2):
        cancelled = json.loads(machine.run(signed + CANCEL))
        assert cancelled == {"success": True, "message": "Flow build cancelled successfully"}
    *_, last = [json.loads(line) for line in reading.communicate(timeout=PATIENCE)[0].split("\n\n") if line.strip()]
    assert (last["event"], last["data"]["status"]) == ("end", "cancelled")
    assert json.loads(machine.run(signed + MONITOR))["active_jobs"] == 0
    assert machine.stop() == 0


def test_the_first_start_says_the_password_once_and_it_signs_in(machine: Machine) -> None:
    machine.serve(LANGFLOW_AUTO_LOGIN="False")
    (password,) = re.findall(r"with the password (\S+) ", machine.said())
    assert len(signed_in(machine, SIGN_IN.replace("changeme", password))) > 30
    assert machine.stop() == 0
    machine.serve(LANGFLOW_AUTO_LOGIN="False")
    assert machine.said().count(password) == 1


def test_no_secret_is_written_anywhere(machine: Machine) -> None:
    password = "CANARY-7f3a0c51-of-a-password"  # noqa: S105  it is looked for
    machine.serve(LANGFLOW_SUPERUSER="admin", LANGFLOW_SUPERUSER_PASSWORD=password, LANGFLOW_AUTO_LOGIN="False")
    wrong = SIGN_IN.replace("changeme", "CANARY-91bd-of-a-wrong-password").replace("['access_token']", "['detail']")
    machine.run(wrong)
    signed = signed_in(machine, SIGN_IN.replace("changeme", password))
    ask = 'curl -s -H "Authorization: Bearer $TOKEN" http://localhost:7860'
    key = json.loads(machine.run(f'{signed}{ask}/api/v1/api_key/ -X POST --json \'{{"name": "ci"}}\''))["api_key"]
    machine.meant(GUIDE_FLOW, kept(machine, signed, CHAT))
    job = json.loads(machine.run(BUILD.replace("Authorization: Bearer $TOKEN", f"x-api-key: {key}")))["job_id"]
    machine.meant(GUIDE_JOB, job)
    webhook = json.loads(machine.run(f"{signed}{ask}/api/v1/flows/{GUIDE_FLOW}/webhook-secret -X POST"))["secret"]
    told = [machine.run(signed + EVENTS), machine.said()]
    told += [machine.run(f"{signed}{ask}{path}") for path in ("/openapi.json", "/api/v1/jobs", f"/api/v1/jobs/{job}")]
    told += [machine.run(f"{signed}{ask}{path}") for path in ("/api/v1/api_key/", f"/api/v1/flows/{GUIDE_FLOW}")]
    machine.stop()
    secrets = [password, "CANARY-91bd-of-a-wrong-password", signed[6:-1], key.rpartition("_")[2], webhook]
    (machine.home / "flow.json").unlink()
    written = {
        os.fspath(path.relative_to(machine.home)): path.read_bytes()
        for path in machine.home.rglob("*")
        if path.is_file()
    }
    assert any(content.startswith(b"SQLite format 3") for content in written.values())
    for secret in secrets:
        assert not [text for text in told if secret in text]
        assert not [name for name, content in written.items() if secret.encode() in content]
