"""Real Celery as seen from the project's environment: a process in one of its own, that plays cases."""

from __future__ import annotations

import json
import subprocess
from typing import Self

from benchmarks.environments import ROOT, python_for
from tests.differential.canvases import Case
from tests.differential.outcomes import Played
from tests.lifeline import end_with_parent


class CelerySide:
    """Celery, with its worker and a Valkey that nobody else uses; made on first use, with its packages."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [python_for("celery"), "-m", "tests.differential.celery_peer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  it holds no lock
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def play(self, case: Case) -> Played:
        """Return what Celery makes of a case."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Celery's process ended with exit code {self._process.wait()}, at {json.dumps(case)}")
        played: Played = json.loads(line)
        return played
