"""Secrets of webhooks: made of what is stored, and stored nowhere themselves; and the signatures made with them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from millstream.ledger.flow_store import FlowSummary
from millstream.ledger.identity import Identity

HEADER: Final = "X-Hub-Signature-256"
_PREFIX: Final = "sha256="


def new_nonce() -> str:
    """Return what makes a flow's secret another one than before."""
    return secrets.token_hex(16)


def secret_of(identity: Identity, flow: FlowSummary) -> str | None:
    """Return the secret that requests to a flow's webhook are signed with; `None` where it has none.

    It follows from the ledger's key and the flow's nonce, of which only the latter is in what is shown or exported.
    """
    if flow.webhook is None:
        return None
    told = f"webhook:{flow.id}:{flow.webhook}".encode()
    return "whsec_" + hmac.new(identity.key, told, hashlib.sha256).hexdigest()


def signature_of(secret: str, body: bytes) -> str:
    """Return the signature of a request's body, as the header has it.

    >>> signature_of("secret", b"{}")[:14]
    'sha256=7da6d50'
    """
    return _PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(secret: str | None, body: bytes, signature: str | None) -> bool:
    """Return whether a body was signed with a secret; in the same time whatever the signature is."""
    right = signature_of(secret or secrets.token_hex(), body)
    given = (signature or "").encode("utf-8", "replace")
    return hmac.compare_digest(right.encode(), given) and secret is not None
