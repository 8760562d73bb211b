"""One poll of a server that somebody else set up, before clients come to it over HTTP. It blocks."""

from __future__ import annotations

import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from loadgen.drivers import HTTP_DRIVERS
from loadgen.drivers.base import Want
from loadgen.http1 import DONE, Answers, BadAnswer, Head, addressed
from loadgen.trust import Tls
from loadgen.workload import client_name
from reports.history import Transport

from .steady import ProbeFailed

PORTS = {"http": 80, "https": 443}
READ_BYTES = 65_536


def ask_over_http(
    url: str, driver: str, *, tls: Tls, token: str | None, channel: str, patience_s: float
) -> None:
    """Subscribe to a channel by a poll that does not wait.

    Args:
        patience_s: for all of it.
    Raises:
        AuthFailed: the certificate is not one that is trusted.
        ProbeFailed: the server does not let client 0 in, or what answers is something else.
        OSError: nobody answers.
    """
    codec = HTTP_DRIVERS[driver](Transport.POLL)
    request = addressed(codec.connect(client_name(0), [Want(channel)], token), urlsplit(url).netloc)
    deadline_s = time.monotonic() + patience_s
    try:
        head, body = _answer(url, tls, request, deadline_s)
    except ssl.SSLCertVerificationError as unknown:
        raise tls.stranger(url, unknown) from None
    except TimeoutError:
        raise ProbeFailed(f"not answered within {patience_s:g} s") from None
    except BadAnswer as bad:
        raise ProbeFailed(f"not answered in HTTP: {bad}") from None
    if head.status != 200:
        raise ProbeFailed(f"answered with {head.status}{_reason(body)}")
    if not body.startswith(b'{"position":'):
        raise ProbeFailed(f"answered with {body[:60]!r}: it must have a position and frames")


def _answer(url: str, tls: Tls, request: bytes, deadline_s: float) -> tuple[Head, bytes]:
    parts, secure = urlsplit(url), tls.arguments(url)
    host = str(parts.hostname)
    with socket.create_connection(
        (host, parts.port or PORTS[parts.scheme]), timeout=deadline_s - time.monotonic()
    ) as plain:
        if not secure:
            return _ask(plain, request, deadline_s)
        name: dict[str, Any] = {"server_hostname": host, **secure}
        context = name.pop("ssl")
        with context.wrap_socket(plain, **name) as wrapped:
            return _ask(wrapped, request, deadline_s)


def _ask(connection: socket.socket, request: bytes, deadline_s: float) -> tuple[Head, bytes]:
    connection.sendall(request)
    answers, head, body = Answers(), Head(0, {}), bytearray()
    while True:
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        data = connection.recv(READ_BYTES)
        for part in answers.feed(data) if data else (answers.ended(),):
            if isinstance(part, Head):
                head = part
            elif part is DONE:
                return head, bytes(body)
            elif part is None:
                raise ProbeFailed("not answered: the connection was closed")
            else:
                body += part


def _reason(body: bytes) -> str:
    """What the error says, if it is one of the server's."""
    try:
        reason = json.loads(body)["reason"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {reason}"
