"""Where what is measured writes (on the disk that holds the project: the one below /tmp may be memory), and where its
broker is.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

BROKER_VARIABLE = "BENCHMARKS_BROKER_URL"
"""Where Celery finds its broker, where that is not what keeps its results."""

HOME = Path(__file__).resolve().parent.parent / ".bench" / "data"


def new_directory() -> Path:
    """Return a new, empty directory; whoever takes it removes it."""
    HOME.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=HOME))
