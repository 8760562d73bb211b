"""The HTTP port: the chat page, and the transports for those whose WebSocket does not get through.

``ROUTES`` is all that there is. Every answer that is no page, stream or frame is an ``error`` frame.
PROTOCOL.md § Fallback transports.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from ..config import Config
from ..logs import log
from ..protocol.errors import BadRequest, ChatdError, Internal, Unknown
from ..protocol.messages import encode
from ..tls import server_context
from .base import Gateway, Listening
from .guard import objection, readable_by
from .longpoll import serve_poll
from .mailbox import Refused
from .page import Page
from .posting import serve_post
from .sse import serve_sse

FIELD_BYTES: Final = 32 * 1024  # a header or a URL: the positions of many channels, escaped twice
IDLE_S: Final = 30.0  # of a connection between requests, and before its first one
BACKLOG: Final = 1024
SHUTDOWN_S: Final = 1.0

Answer = Awaitable[web.StreamResponse]
Handle = Callable[[web.BaseRequest], Answer]


class HttpPort:
    """Contract: ``Listening``. One aiohttp server on the daemon's loop."""

    def __init__(self, config: Config, gateway: Gateway) -> None:
        self._config = config
        self._gateway = gateway
        self._page = Page(gateway)
        self._listener: asyncio.Server
        self._server: web.Server
        self.url = ""
        self.routes: Final[Mapping[str, Mapping[str, Handle]]] = {
            "/sse": {"GET": lambda request: serve_sse(request, gateway, config)},
            "/poll": {"GET": lambda request: serve_poll(request, gateway, config)},
            "/publish": {"POST": lambda request: serve_post(request, gateway, config)},
            **{path: {"GET": self._page.serve, "HEAD": self._page.serve} for path in self._page.paths},
        }

    async def open(self, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        self._server = web.Server(
            self._serve,
            handler_cancellation=True,
            access_log=None,
            logger=_quiet_logger(),
            keepalive_timeout=IDLE_S,
            max_line_size=FIELD_BYTES,
            max_field_size=FIELD_BYTES,
            auto_decompress=False,
        )
        host = self._config.host
        self._listener = await loop.create_server(
            self._server, host, port, backlog=BACKLOG, reuse_address=True, ssl=tls
        )
        bound = self._listener.sockets[0].getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{bound}/"

    def close(self) -> None:
        self._listener.close()
        self._server.pre_shutdown()

    async def closed(self) -> None:
        await self._server.shutdown(SHUTDOWN_S)

    # One request ------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._answer(request)
        if not response.prepared:
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers["X-Content-Type-Options"] = "nosniff"
            if response.status != 403:
                response.headers.update(readable_by(request.headers))
        self._gateway.metrics.count_http(response.status)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            config = self._config
            refused = objection(request.headers, loopback=config.loopback, named=config.origins)
            if refused is not None:
                raise refused
            return await self._handle(request)
        except Refused as answer:
            return _refusal(answer)
        except ChatdError as error:
            return _refusal(Refused.because(error))
        except ConnectionError:
            raise
        except Exception as bug:
            trace = "".join(traceback.format_exception(bug))
            log("internal_error", level="error", reason=repr(bug), trace=trace)
            return _refusal(Refused.because(Internal("internal error")))

    def _handle(self, request: web.BaseRequest) -> Answer:
        methods = self.routes.get(request.path)
        if methods is None:
            raise Unknown(f"no such path: {', '.join(self.routes)} are here")
        handle = methods.get(request.method)
        if handle is not None:
            return handle(request)
        if request.method == "OPTIONS":
            return _preflight(methods)
        bad = BadRequest(f"method is {request.method}: must be {' or '.join(methods)}")
        raise Refused.because(bad, status=405)


async def _preflight(methods: Mapping[str, Handle]) -> web.StreamResponse:
    headers = {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
        "Access-Control-Max-Age": "600",
    }
    return web.Response(status=204, headers=headers)


def _refusal(refused: Refused) -> web.Response:
    headers = {} if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
    return web.Response(
        status=refused.status, headers=headers, body=encode(refused.error), content_type="application/json"
    )


def _quiet_logger() -> logging.Logger:
    """aiohttp logs every request that is no HTTP, with a traceback: any client could fill a disk with it."""
    logger = logging.getLogger("aiohttp.chatd")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


async def listen_http(config: Config, gateway: Gateway) -> Listening | None:
    """Serve the page, SSE, polling and POST. None: the configuration has it off."""
    if config.http_port == 0:
        return None
    port = 0
    if isinstance(config.http_port, int):
        port = config.http_port
    elif config.http_port == "auto" and config.port != 0:
        port = config.port + 1
    http = HttpPort(config, gateway)
    await http.open(port, server_context(config.tls_cert, config.tls_key) if config.tls_cert else None)
    return http
