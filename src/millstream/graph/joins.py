"""When a node starts, given how its predecessors ended: the one decision behind every join rule.

A rule fires early only when nothing later can change its verdict; else the outcome would depend on the order in which
results arrive. So for `all_success` a failure decides at once, while a skip waits for the last vote (a later failure
outranks it). The rules and their meaning are Airflow's trigger rules; `k_of_n` is added.
"""

from __future__ import annotations

from typing import NamedTuple

from millstream.model.graph import JoinRule
from millstream.model.job import NodeState


class Votes(NamedTuple):
    """How the predecessors of one node stand.

    Attributes:
        ok: How many succeeded.
        failed: How many failed or were cancelled.
        skipped: How many were skipped, or lie on a branch that was not chosen.
        upstream: How many never ran because something before them failed.
        left: How many have not ended.
    """

    ok: int
    failed: int
    skipped: int
    upstream: int
    left: int


_WAIT, _RUN, _SKIP, _BLOCK = NodeState.PENDING, NodeState.READY, NodeState.SKIPPED, NodeState.UPSTREAM_FAILED


def verdict(rule: JoinRule, votes: Votes, k: int = 0) -> NodeState:  # noqa: C901, PLR0911, PLR0912  one line a rule
    """Return what becomes of a node: it waits (`PENDING`), runs (`READY`), is skipped or blocked.

    >>> verdict("one_success", Votes(ok=1, failed=0, skipped=0, upstream=0, left=3)).name
    'READY'
    """
    ok, failed, skipped, upstream, left = votes
    broken = failed or upstream
    match rule:
        case "all_success":
            return _BLOCK if broken else _WAIT if left else _SKIP if skipped else _RUN
        case "all_done":
            return _WAIT if left else _RUN
        case "all_failed":
            return _SKIP if ok or skipped else _WAIT if left else _RUN
        case "one_success":
            return _RUN if ok else _WAIT if left else _BLOCK if broken else _SKIP
        case "one_failed":
            return _RUN if broken else _WAIT if left else _SKIP
        case "one_done":
            return _RUN if ok or failed else _WAIT if left else _SKIP
        case "none_failed":
            return _BLOCK if broken else _WAIT if left else _RUN
        case "none_failed_min_one_success":
            return _BLOCK if broken else _WAIT if left else _RUN if ok else _SKIP
        case "none_skipped":
            return _SKIP if skipped else _WAIT if left else _RUN
        case "all_skipped":
            return _SKIP if ok or broken else _WAIT if left else _RUN
        case "always":
            return _RUN
        case "k_of_n":
            if ok >= k:
                return _RUN
            still_possible = ok + left >= k
            return _WAIT if still_possible else _BLOCK if broken else _WAIT if left else _SKIP
