"""Flow servers under load: ours and Langflow, each started as its users start it, on loopback, with SQLite.

Both are asked the same over HTTP: the paths and the answers are the same, and only the documents of the flows differ.
Langflow is 450 distributions, so it is not installed here; `BENCHMARKS_LANGFLOW` names a Python that has it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import abstractmethod
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.environments import NotInstalledError
from benchmarks.load import Place
from benchmarks.places import new_directory
from benchmarks.wire import Client

LANGFLOW = "BENCHMARKS_LANGFLOW"
START_SECONDS = 400.0
SAID = "hello"
_PASSWORD = "changeme"  # noqa: S105  of a server that lives as long as its measurement
_LOOK_SECONDS = 0.02


class FlowServer:
    """One server in a process of its own, and what its clients do; `begin` comes first, `end` last."""

    title: str

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._home = new_directory()
        self.url = self.token = self.key = self.flow = ""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return what starts the server."""

    @abstractmethod
    async def chat(self, client: Client) -> dict[str, Any]:
        """Return a flow that says what it is told: ChatInput to ChatOutput."""

    def begin(self) -> float:
        """Start the server, and return the seconds until it first said that it is well."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        with (self._home / "log").open("ab") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(  # noqa: S603  one of two programs
                self.command(port), cwd=self._home, env=os.environ | self._variables(), stdout=log, stderr=log
            )
        while time.perf_counter() - began < START_SECONDS:
            if self._process.poll() is not None:
                break
            if _is_well(port):
                return time.perf_counter() - began
            time.sleep(_LOOK_SECONDS)
        said = (self._home / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        self.end()
        raise RuntimeError(f"{self.title} did not start: {' '.join(said[-3:])}")

    def _variables(self) -> dict[str, str]:
        return {
            "DO_NOT_TRACK": "True",
            "LANGFLOW_DO_NOT_TRACK": "True",
            "ANONYMIZED_TELEMETRY": "False",
            "HF_HUB_OFFLINE": "1",
            "HOME": str(self._home),
            "LANGFLOW_CONFIG_DIR": str(self._home / "config"),
            "LANGFLOW_DATABASE_URL": f"sqlite:///{self._home / 'flows.db'}",
            "LANGFLOW_AUTO_LOGIN": "False",
            "LANGFLOW_SUPERUSER": "admin",
            "LANGFLOW_SUPERUSER_PASSWORD": _PASSWORD,
            "LANGFLOW_WORKERS": "1",
        }

    async def sign_in(self) -> None:
        """Sign in, and give the server its flow."""
        client = Client(self.url)
        signed_in = await client.ask("POST", "/api/v1/login", form=f"username=admin&password={_PASSWORD}")
        self.token = signed_in.json()["access_token"]
        client.close()
        client = Client(self.url, self.token)
        made = await client.ask("POST", "/api/v1/api_key/", {"name": "bench"})
        self.key = made.json()["api_key"]  # Langflow's /run takes nothing else
        self.flow = await self.keep(client, "chat", await self.chat(client))
        client.close()

    async def keep(self, client: Client, name: str, data: dict[str, Any]) -> str:
        """Give the server a flow, and return its id."""
        made = await client.ask("POST", "/api/v1/flows/", {"name": name, "description": "", "data": data})
        flow_id: str = made.json()["id"]
        return flow_id

    @property
    def place(self) -> Place:
        """Where its clients ask."""
        return Place(self.url, self.token, self.flow, self.key)

    def memory(self) -> int:
        """Return the bytes of memory that are its own, and its share of what it has with others: PSS, of all of it."""
        assert self._process
        return sum(_pss(pid) for pid in _family(self._process.pid))

    def end(self) -> None:
        """Stop the server, and remove what it wrote."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def forget(self) -> None:
        """Remove what the server wrote."""
        shutil.rmtree(self._home, ignore_errors=True)


class Ours(FlowServer):
    """Our server.

    Args:
        settings: Settings by their names, beyond what every server has.
    """

    title = "millstream serve"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "millstream", "serve", "--host", "127.0.0.1", "--port", str(port)]

    def _variables(self) -> dict[str, str]:
        return super()._variables() | self._settings

    async def chat(self, _: Client) -> dict[str, Any]:
        return self.drawn()

    @staticmethod
    def drawn() -> dict[str, Any]:
        """Return a flow that says what it is told."""
        nodes = [{"id": name, "data": {"component": name}} for name in ("ChatInput", "ChatOutput")]
        return {"nodes": nodes, "edges": [_edge("ChatInput", "message", "ChatOutput", "input_value")]}

    @staticmethod
    def waiting() -> dict[str, Any]:
        """Return a flow that waits for an hour."""
        return {"nodes": [{"id": "wait", "data": {"component": "Wait", "values": {"seconds": 3600}}}], "edges": []}


class Langflow(FlowServer):
    title = "Langflow"

    def command(self, port: int) -> list[str]:
        python = os.environ.get(LANGFLOW, "")
        if not Path(python).is_file():
            raise NotInstalledError(f"set {LANGFLOW} to a Python that has Langflow, in an environment of its own")
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return [python, "-m", "langflow", "run", *where, "--backend-only", "--no-open-browser", "--log-level", "error"]

    async def chat(self, client: Client) -> dict[str, Any]:
        known = (await client.ask("GET", "/api/v1/all")).json()["input_output"]
        taken = known["ChatOutput"]["template"]["input_value"]
        source = {"dataType": "ChatInput", "id": "in", "name": "message", "output_types": ["Message"]}
        target = {"fieldName": "input_value", "id": "out", "inputTypes": taken["input_types"], "type": taken["type"]}
        ends = {"sourceHandle": source, "targetHandle": target}
        edge = {"id": "edge", "source": "in", "target": "out", "data": ends}
        nodes = [
            {
                "id": name,
                "type": "genericNode",
                "position": {"x": 0, "y": 0},
                "data": {"id": name, "type": kind, "node": known[kind]},
            }
            for name, kind in (("in", "ChatInput"), ("out", "ChatOutput"))
        ]
        return {"nodes": nodes, "edges": [edge | {end: _handle(value) for end, value in ends.items()}]}


def _edge(source: str, output: str, target: str, taken: str) -> dict[str, str]:
    return {"source": source, "sourceHandle": output, "target": target, "targetHandle": taken}


def _handle(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")).replace('"', "œ")


def _is_well(port: int) -> bool:
    """Ask whether a server is well; cheaply, for what it takes it takes from the server that starts."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _family(pid: int) -> list[int]:
    """Return a process and all below it."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(one for child in below for one in _family(int(child)))]


def _pss(pid: int) -> int:
    rolled = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in rolled.splitlines() if line.startswith("Pss:"))
