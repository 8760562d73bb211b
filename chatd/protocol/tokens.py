"""Tokens on the wire: JSON Web Tokens signed with HMAC-SHA256 (RFC 7519, RFC 7515, RFC 7518 § 3.2).

How they are spelled, for the server that checks them and for load clients that make their own. What a
claim means is the server's business: ``chatd.auth``.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec

ALGORITHM: Final = "HS256"


def sign(secret: bytes, claims: Mapping[str, object]) -> str:
    """A token that says ``claims``."""
    head = encode(msgspec.json.encode({"alg": ALGORITHM, "typ": "JWT"}))
    signed = (head + b"." + encode(msgspec.json.encode(claims))).decode()
    return f"{signed}.{signature(secret, signed).decode()}"


def signature(secret: bytes, signed: str) -> bytes:
    """The third part of a token whose first two, with the point between them, are ``signed``."""
    return encode(hmac.digest(secret, signed.encode(), "sha256"))


def encode(data: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode(part: str) -> bytes:
    """Bytes of a part of a token. Raises ``ValueError`` where it is not base64url without padding."""
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
