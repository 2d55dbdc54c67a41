"""What whoever no longer holds a segment is told."""

from __future__ import annotations

from millstream.ledger.base import MAIN, Claim, FencedError


def fenced(claim: Claim) -> FencedError:
    """Return the refusal of a record of a claim that holds no longer."""
    what = f"job {claim.job.id}" if claim.segment == MAIN else f"segment {claim.segment} of job {claim.job.id}"
    return FencedError(f"{what} is no longer held by {claim.holder} (attempt {claim.attempt})")
