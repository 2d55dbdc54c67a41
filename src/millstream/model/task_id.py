"""The ids of tasks: `<job id>.<node>`, unless a submission gave one of its own."""

from __future__ import annotations

import re
from typing import Final

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NODE_ID: Final = re.compile(rf"({_JOB_ID.pattern})\.(.+)")


def may_be_job_id(task_id: str) -> bool:
    """Return whether an id has the form of those of jobs.

    >>> may_be_job_id("01a1fde4-6cba-7477-bb26-ec4a56b45faa"), may_be_job_id("report-2026-11-21")
    (True, False)
    """
    return _JOB_ID.fullmatch(task_id) is not None


def split_task_id(task_id: str) -> tuple[str, str] | None:
    """Return the job's id and the node's path of an id of this form; `None` for any other text.

    >>> split_task_id("01a1fde4-6cba-7477-bb26-ec4a56b45faa.chord/pay")
    ('01a1fde4-6cba-7477-bb26-ec4a56b45faa', 'chord/pay')
    >>> split_task_id("report-2026-11-21")
    """
    found = _NODE_ID.fullmatch(task_id)
    return None if found is None else (found[1], found[2])
