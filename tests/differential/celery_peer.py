"""`python -m tests.differential.celery_peer`, in Celery's environment: cases in, what real Celery does with them out.

One line of JSON per case, and one per answer: `{"outcome": OUTCOME, "notes": [...]}`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any

from tests.differential.canvases import Case, build
from tests.valkey import CeleryWorker

_CASE_SECONDS = 4.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def main() -> None:
    # Whatever Celery prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with CeleryWorker("tests.differential.celery_app", "--pool", "solo") as worker:
        for line in sys.stdin:
            played = json.dumps(_play(json.loads(line), worker))
            print(_ID.sub("an id", played), file=answers, flush=True)  # a case has the same answer each time


def _play(case: Case, worker: CeleryWorker) -> dict[str, Any]:
    # It reads where its broker is when it is imported.
    import celery  # noqa: PLC0415

    from tests.differential.celery_app import NOTES, OPEN, store, tasks  # noqa: PLC0415
    from tests.differential.outcomes import outcome_of  # noqa: PLC0415

    store.delete(NOTES, OPEN)
    try:
        result = build(case["canvas"], celery, tasks).apply_async(tuple(case.get("args", ())), case.get("kwargs", {}))
    except Exception as error:  # noqa: BLE001  whatever it is, it is what Celery does
        if not _rested(store):  # of a group that is refused, some members may run
            worker.restart()
        return {"outcome": {"raises": type(error).__name__}, "notes": []}
    if not _rested(store):
        worker.restart()  # some canvases leave it stuck
        return {"outcome": {"never": True}, "notes": []}
    notes = sorted(store.lrange(NOTES, 0, -1))
    return {"outcome": outcome_of(result), "notes": [json.loads(note) for note in notes]}


def _rested(store: Any) -> bool:
    """Wait until no message is under way and no task runs; return whether that came to be."""
    from tests.differential.celery_app import OPEN  # noqa: PLC0415

    until = time.monotonic() + _CASE_SECONDS
    while int(store.get(OPEN) or 0) > 0:
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


if __name__ == "__main__":
    main()
