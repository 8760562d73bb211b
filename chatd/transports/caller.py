"""Who makes an HTTP request, as the daemon wants to know it."""

from __future__ import annotations

from aiohttp import web

from .asked import token_of
from .mailbox import Caller


def caller(request: web.BaseRequest) -> Caller:
    """Read from the socket and the Authorization header. Raises ``BadRequest``."""
    return Caller(request.transport, request.remote or "", token_of(request.headers))
