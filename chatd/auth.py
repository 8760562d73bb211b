"""Who a client is: JSON Web Tokens signed with HMAC-SHA256 (RFC 7519, RFC 7518 § 3.2).

The key decides the algorithm, never the token (RFC 8725 § 3.1): HS256 and nothing else, so
``none`` and every other ``alg`` is refused. ``exp``, ``aud`` and ``sub`` are required. No error says
anything that stood in the token. The tests hold this against PyJWT, which takes eight times as long.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from .checks import check_name
from .protocol import tokens
from .protocol.errors import BadRequest, TokenExpired, Unauthorized
from .rights import Rights, parse_rights

SECRET_BYTES: Final = 32  # RFC 7518 § 3.2: a key at least as long as the hash
TOKEN_BYTES: Final = 8 * 1024
LATEST_S: Final = 2**53  # a time beyond this is no time

MAKE_SECRET: Final = "make one with: openssl rand -base64 48 > FILE"


class SecretUnusable(Exception):
    """The secret cannot be had. The text is one line, without the secret: field, value, rule, remedy."""


class Grant(msgspec.Struct, frozen=True):
    """What a valid token says."""

    user: str
    rights: Rights
    left_s: float  # until it expires


class Authority(Protocol):
    """Says what a token is worth at this moment."""

    def grant(self, token: str) -> Grant:
        """Raises ``Unauthorized`` or ``TokenExpired``."""


class Verifier:
    """Contract: ``Authority``.

    Args:
        secret: the key that tokens are signed with, ``SECRET_BYTES`` or more.
        audience: what ``aud`` must be, or hold.
        wall_s: seconds since 1970.
    """

    def __init__(self, secret: bytes, audience: str, wall_s: Callable[[], float]) -> None:
        self._secret = secret
        self._audience = audience
        self._wall_s = wall_s

    def __repr__(self) -> str:
        return f"Verifier(audience={self._audience!r})"  # never the secret

    def grant(self, token: str) -> Grant:
        claims = self._claims(token)
        now_s = self._wall_s()
        if not max(abs(claims.exp), abs(claims.nbf)) < LATEST_S:
            raise Unauthorized("token is refused: exp and nbf must be times in seconds since 1970")
        try:
            user = check_name("sub", claims.sub)
            rights = parse_rights(claims.rights)
        except BadRequest:
            raise Unauthorized("token is refused: sub is no name of a user") from None
        except ValueError as bad:
            raise Unauthorized(f"token is refused: {bad}") from None
        if claims.exp <= now_s:
            raise TokenExpired("token has expired: get a new one")
        if claims.nbf > now_s:
            raise Unauthorized("token is refused: it is not valid yet (nbf)")
        return Grant(user, rights, claims.exp - now_s)

    def _claims(self, token: str) -> _Claims:
        """Check the signature, and only then read what it signs (RFC 7515 § 5.2)."""
        if not token.isascii() or len(token) > TOKEN_BYTES or token.count(".") != 2:
            raise Unauthorized(f"token is refused: it is no JSON Web Token of at most {TOKEN_BYTES} bytes")
        signed, _, signature = token.rpartition(".")
        head, _, payload = signed.partition(".")
        try:
            header = _read_header(tokens.decode(head))
        except (ValueError, msgspec.MsgspecError, RecursionError):
            raise Unauthorized("token is refused: its header cannot be read") from None
        if header.alg != tokens.ALGORITHM or header.crit is not msgspec.UNSET:
            raise Unauthorized(f"token is refused: alg must be {tokens.ALGORITHM}, and without crit")
        # Encoding what it should be, and not decoding what it is, leaves one spelling of each signature.
        if not hmac.compare_digest(tokens.signature(self._secret, signed), signature.encode()):
            raise Unauthorized("token is refused: the signature is not of this server's secret")
        try:
            claims = _read_claims(tokens.decode(payload))
        except (ValueError, msgspec.MsgspecError, RecursionError) as bad:
            raise Unauthorized(f"token is refused: its claims are not as they must be: {bad}") from None
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if self._audience not in audience:
            raise Unauthorized(f"token is refused: aud must be {self._audience!r}")
        return claims


class _Header(msgspec.Struct, frozen=True):
    alg: str
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Claims(msgspec.Struct, frozen=True):
    sub: str
    exp: float
    aud: str | list[str]
    nbf: float = 0.0
    rights: dict[str, list[str]] | None = None


_read_header = msgspec.json.Decoder(_Header).decode
_read_claims = msgspec.json.Decoder(_Claims).decode


def issue(
    secret: bytes,
    *,
    user: str,
    audience: str,
    now_s: float,
    ttl_s: float,
    rights: Mapping[str, list[str]] | None = None,
) -> str:
    """Sign a token.

    Args:
        user: becomes ``sub``, and on the server the ``user`` of what its holder writes.
        rights: channel pattern → words; None: everything but to moderate (chatd/rights.py).
    Raises:
        ValueError: some claim would be refused by ``Verifier``.
    """
    try:
        check_name("sub", user)
    except BadRequest as bad:
        raise ValueError(bad.reason) from None
    parse_rights(rights)
    claims: dict[str, object] = {"sub": user, "aud": audience, "iat": math.floor(now_s)}
    claims["exp"] = math.ceil(now_s + ttl_s)
    if rights is not None:
        claims["rights"] = dict(rights)
    return tokens.sign(secret, claims)


def read_secret(file: Path | None, variable: str, environ: Mapping[str, str]) -> bytes | None:
    """The secret from a file, or from an environment variable; None: neither is named.

    White space around it is no part of it. Raises ``SecretUnusable``.
    """
    if file is not None:
        where = f"auth_secret_file is {str(file)!r}"
        try:
            secret = file.read_bytes().strip()
        except OSError as bad:
            raise SecretUnusable(f"{where}: cannot be read: {bad.strerror}; {MAKE_SECRET}") from None
    elif variable:
        where = f"auth_secret_env is {variable!r}"
        if variable not in environ:
            raise SecretUnusable(f"{where}: no such environment variable; set it, or give auth_secret_file")
        secret = environ[variable].encode(errors="surrogateescape").strip()
    else:
        return None
    if len(secret) < SECRET_BYTES:
        raise SecretUnusable(
            f"{where}: holds {len(secret)} bytes: must hold {SECRET_BYTES} or more; {MAKE_SECRET}"
        )
    return secret
