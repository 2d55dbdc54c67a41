"""THE list of what can be called without a credential; everything else is denied. Matched exactly, after routing.

A test holds a copy of it: whoever adds a line has to say so in both places.
"""

from __future__ import annotations

from typing import Final

PUBLIC: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("POST", "/api/v1/login"),
        ("GET", "/health"),
        ("GET", "/health_check"),
        ("GET", "/api/v1/version"),
        # Its route checks the signature itself, and answers 401 where the flow has no secret or the signature is wrong.
        ("POST", "/api/v1/webhook/{flow_id_or_name}"),
    }
)

LOCAL: Final[frozenset[tuple[str, str]]] = frozenset({("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/metrics")})
"""What can be called without a credential from this machine."""
