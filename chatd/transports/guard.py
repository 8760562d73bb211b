"""Which web pages may talk to the HTTP port. No I/O.

A browser sends requests on behalf of any page that it shows. ``Origin`` tells whose; ``Host`` tells by which
name this server was reached, which unmasks a foreign name that was pointed at this machine
(DNS rebinding). Programs that are no browsers send no ``Origin`` and pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from ..config import is_loopback
from ..protocol.errors import BadRequest, ChatdError, Forbidden
from .origins import origin_allowed


def hostname_of(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None when it is none."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port != 0 and "@" not in host else None
    except ValueError:
        return None


def objection(headers: Mapping[str, str], *, loopback: bool, named: Collection[str]) -> ChatdError | None:
    """Why a request is not served; None: it is.

    Args:
        loopback: this server listens on a loopback address, so that it has no name but this
            machine's and those of ``named``.
        named: the operator's ``origins``.
    """
    host = headers.get("Host", "")
    hostname = hostname_of(host)
    if hostname is None:
        return BadRequest(f"Host is {host!r}: must be the name or address of this server")
    if loopback and not is_loopback(hostname) and hostname not in {urlsplit(each).hostname for each in named}:
        return Forbidden(f"Host is {host!r}: must be a loopback address, or named in chatd's origins")
    origin = headers.get("Origin")
    if origin is not None and not _may(origin, host, named):
        return Forbidden(f"Origin is {origin!r}: must be on this machine, or named in chatd's origins")
    return None


def readable_by(headers: Mapping[str, str]) -> dict[str, str]:
    """What tells the browser that the page which asks may read the answer. The guard has let it in."""
    origin = headers.get("Origin")
    return {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def _may(origin: str, host: str, named: Collection[str]) -> bool:
    try:
        return urlsplit(origin).netloc == host or origin_allowed(origin, named)
    except ValueError:
        return False
