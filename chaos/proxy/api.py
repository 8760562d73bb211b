"""The HTTP API: Toxiproxy 2.12's routes, answers and errors, and three of our own.

``GET /metrics`` needs no flag here; ``GET /connections`` and ``GET /events`` are additions.
"""

import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from time import monotonic
from typing import Any

from aiohttp import web

from chaos.proxy import metrics
from chaos.proxy.body import ApiError, decode
from chaos.proxy.chain import ActiveToxic
from chaos.proxy.connection import Connection
from chaos.proxy.proxy import Proxy
from chaos.proxy.registry import Registry

MAX_BODY = 1 << 20  # bytes
PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The handlers.

    Args:
        version: what ``GET /version`` says.
        hosts: names, besides ``localhost``, under which this server may be called.
    """

    def __init__(self, registry: Registry, *, version: str, hosts: tuple[str, ...] = ()) -> None:
        self.registry = registry
        self.version = version
        self._hosts = {"localhost", *hosts}

    def application(self) -> web.Application:
        """The routes, in the order of Toxiproxy's documentation."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        proxy, toxics, toxic = (
            "/proxies/{proxy}",
            "/proxies/{proxy}/toxics",
            "/proxies/{proxy}/toxics/{toxic}",
        )
        for method, path, handler in (
            ("GET", "/proxies", self.list_proxies),
            ("POST", "/proxies", self.create_proxy),
            ("POST", "/populate", self.populate),
            ("GET", proxy, self.show_proxy),
            ("POST", proxy, self.update_proxy),
            ("PATCH", proxy, self.update_proxy),
            ("DELETE", proxy, self.delete_proxy),
            ("GET", toxics, self.list_toxics),
            ("POST", toxics, self.create_toxic),
            ("GET", toxic, self.show_toxic),
            ("POST", toxic, self.update_toxic),
            ("PATCH", toxic, self.update_toxic),
            ("DELETE", toxic, self.delete_toxic),
            ("POST", "/reset", self.reset),
            ("GET", "/version", self.show_version),
            ("GET", "/metrics", self.show_metrics),
            ("GET", "/connections", self.list_connections),
            ("GET", "/events", self.stream_events),
        ):
            app.router.add_route(method, path, handler)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse browsers and foreign host names; put errors into Toxiproxy's form."""
        if request.headers.get("User-Agent", "").startswith("Mozilla/"):
            return web.Response(status=403, text="User agent not allowed\n", headers=PLAIN)
        try:
            self._check_host(request.headers.get("Host", ""))
            return await handler(request)
        except ApiError as error:
            return _error(error)
        except web.HTTPRequestEntityTooLarge:
            return _error(ApiError(f"the body is larger than {MAX_BODY} bytes", 413))
        except web.HTTPNotFound:
            return web.Response(status=404, text="404 page not found\n", headers=PLAIN)
        except web.HTTPMethodNotAllowed:
            return web.Response(status=405)

    def _check_host(self, header: str) -> None:
        """A page in a browser can make its own name point here, but not an address."""
        host = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
        try:
            ip_address(host.strip("[]"))
        except ValueError:
            if host and host.lower() not in self._hosts:
                raise ApiError(f"host is {host!r}: call this server by its address", 403) from None

    async def list_proxies(self, request: web.Request) -> web.Response:
        shown = {name: show(proxy) for name, proxy in sorted(self.registry.proxies.items())}
        return _json(shown)

    async def create_proxy(self, request: web.Request) -> web.Response:
        return _json(show(await self.registry.create(await _body(request))), status=201)

    async def populate(self, request: web.Request) -> web.Response:
        try:
            proxies, error = await self.registry.populate(await _body(request))
        except ApiError as bad_body:
            proxies, error = [], bad_body
        shown = {"proxies": [show(proxy) for proxy in proxies]}
        if error is None:
            return _json(shown, status=201)
        return _json({"error": error.error, "status": error.status, **shown}, status=error.status)

    async def show_proxy(self, request: web.Request) -> web.Response:
        return _json(show(self.registry.get(request.match_info["proxy"])))

    async def update_proxy(self, request: web.Request) -> web.Response:
        name = request.match_info["proxy"]
        self.registry.get(name)  # 404 goes before 400
        return _json(show(await self.registry.update(name, await _body(request))))

    async def delete_proxy(self, request: web.Request) -> web.Response:
        await self.registry.delete(request.match_info["proxy"])
        return web.Response(status=204)

    async def list_toxics(self, request: web.Request) -> web.Response:
        proxy = self.registry.get(request.match_info["proxy"])
        return _json([show_toxic(toxic) for toxic in proxy.shown_toxics()])

    async def create_toxic(self, request: web.Request) -> web.Response:
        name = request.match_info["proxy"]
        self.registry.get(name)
        toxic = self.registry.add_toxic(name, await _body(request))
        await self.registry.settle(name)
        return _json(show_toxic(toxic))

    async def show_toxic(self, request: web.Request) -> web.Response:
        return _json(show_toxic(self.registry.toxic(*_names(request))))

    async def update_toxic(self, request: web.Request) -> web.Response:
        self.registry.toxic(*_names(request))
        return _json(show_toxic(self.registry.update_toxic(*_names(request), await _body(request))))

    async def delete_toxic(self, request: web.Request) -> web.Response:
        proxy, toxic = _names(request)
        self.registry.remove_toxic(proxy, toxic)
        await self.registry.settle(proxy)
        return web.Response(status=204)

    async def reset(self, request: web.Request) -> web.Response:
        await self.registry.reset()
        return web.Response(status=204)

    async def show_version(self, request: web.Request) -> web.Response:
        body = f'{{"version": "{self.version}"}}\n'.encode()
        return web.Response(body=body, headers={"Content-Type": "application/json;charset=utf-8"})

    async def show_metrics(self, request: web.Request) -> web.Response:
        body = metrics.render(self.registry.proxies.values()).encode()
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def list_connections(self, request: web.Request) -> web.Response:
        now = monotonic()
        proxies = self.registry.proxies.values()
        return _json([show_connection(each, now) for proxy in proxies for each in proxy.connections])

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """One JSON object a line; a client who is too slow is told ``lagged`` and cut off."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        queue = self.registry.events.listen()
        try:
            await response.prepare(request)
            while event := await queue.get():
                await response.write(_encoded(event) + b"\n")
        except ConnectionResetError:
            pass  # the client has left
        finally:
            self.registry.events.unlisten(queue)
        return response


def show(proxy: Proxy) -> dict[str, Any]:
    """A proxy as the API shows it."""
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "toxics": [show_toxic(toxic) for toxic in proxy.shown_toxics()],
    }


def show_toxic(toxic: ActiveToxic) -> dict[str, Any]:
    """A toxic as the API shows it; Go writes a whole float as an integer."""
    share = toxic.toxicity
    counts = {"counts": dict(toxic.counts)} if toxic.counts else {}
    return {
        "attributes": toxic.attributes(),
        "name": toxic.name,
        "type": toxic.type,
        "stream": toxic.stream,
        "toxicity": int(share) if share.is_integer() else share,
        **({} if toxic.ordinals is None else {"ordinals": sorted(toxic.ordinals)}),
        **({"live": True} if toxic.live else {}),
        **counts,
    }


def show_connection(connection: Connection, now: float) -> dict[str, Any]:
    """A live connection: bytes read from each peer, and which toxics work on it."""
    sides = (connection.client, connection.upstream)
    return {
        "id": connection.id,
        "proxy": connection.proxy.name,
        "number": connection.number,
        "ordinal": connection.ordinal,
        "open": connection.open and not connection.closing,
        **({"left": connection.left.leave.peer} if connection.left else {}),
        "age_s": round(now - connection.opened_at, 3),
        "upstream_bytes": connection.client.received,
        "downstream_bytes": connection.upstream.received,
        "toxics": [stage.active.name for side in sides for stage in side.chain.stages],
    }


async def _body(request: web.Request) -> object:
    return decode(await request.read())


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["proxy"], request.match_info["toxic"]


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=_encoded(value), status=status, headers={"Content-Type": "application/json"})


def _error(error: ApiError) -> web.Response:
    body = _encoded({"error": error.error, "status": error.status}) + b"\n"
    return web.Response(body=body, status=error.status, headers=PLAIN)
