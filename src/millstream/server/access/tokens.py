"""The secrets that are given out: how they are made, written and stored. Only their digests are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets

_PREFIX = "ms"
_FAMILY_BYTES = 16


def new_token() -> str:
    """Return a new secret of 32 random bytes, in letters that need no quoting."""
    return secrets.token_urlsafe(32)


def new_family() -> str:
    """Return a new name for a sign-in; its refresh tokens begin with it, so it is a secret, too."""
    return secrets.token_hex(_FAMILY_BYTES)


def is_family(text: str) -> bool:
    """Return whether a text has the form of a name of a sign-in."""
    return len(text) == _FAMILY_BYTES * 2 and text.isalnum()


def digest_of(token: str) -> str:
    """Return what is stored of a secret; it is random enough that a plain SHA-256 tells nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def is_same(token: str, digest: str) -> bool:
    """Return whether a secret has this digest, in the same time whatever it is."""
    return hmac.compare_digest(digest_of(token), digest)


def written_key(key_id: str, secret: str) -> str:
    """Return an API key as it is shown once: `ms_<id>_<secret>`, the id without hyphens."""
    return f"{_PREFIX}_{key_id.replace('-', '')}_{secret}"


def read_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of an API key; `None` where it is none.

    >>> read_key("ms_0192f0c1d2e37b0c8a5e0123456789ab_secret")
    ('0192f0c1-d2e3-7b0c-8a5e-0123456789ab', 'secret')
    """
    prefix, _, rest = text.partition("_")
    digits, underscore, secret = rest.partition("_")
    if prefix != _PREFIX or not underscore or len(digits) != 32 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004  a UUID's
        return None
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])), secret
