"""The chat page: its files, and what they need to know of this server. Files: chatd/page/."""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from .base import Gateway
from .guard import hostname_of

FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
ABOUT: Final = "/about.json"


class Page:
    """Serves the files from memory, with a policy under which nothing else can be loaded or run."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._bodies = {path: _file(name) for path, (name, _) in FILES.items()}
        self.paths = (*FILES, ABOUT)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = self._socket(request)
        if request.path == ABOUT:
            return web.Response(body=msgspec.json.encode({"socket": socket}), content_type="application/json")
        body = self._bodies[request.path]
        tag = f'"{blake2b(body, digest_size=8).hexdigest()}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        headers |= {
            "Content-Security-Policy": policy(socket),
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        kind = FILES[request.path][1]
        return web.Response(body=body, headers=headers, content_type=kind, charset="utf-8")

    def _socket(self, request: web.BaseRequest) -> str:
        """Where the page's WebSocket goes: the host by which the page was reached, the WebSocket's port."""
        own = urlsplit(self._gateway.url)
        name = hostname_of(request.headers.get("Host", "")) or own.hostname or ""
        return f"{own.scheme}://{f'[{name}]' if ':' in name else name}:{own.port}{own.path}"


def policy(socket: str) -> str:
    """The Content-Security-Policy of the page, whose WebSocket goes to ``socket``."""
    parts = urlsplit(socket)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' {parts.scheme}://{parts.netloc}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _file(name: str) -> bytes:
    return (files("chatd") / "page" / name).read_bytes()
