"""Toxiproxy's HTTP API, through toxiproxy-python, and the engine that it makes.

toxiproxy-python 0.1.1 keeps the server's address as class state, waits for ever, answers a
500 with a KeyError, throws the server's confirmation away and cannot update a toxic. Its
``APIConsumer`` sends the requests here: each client subclasses it, so that the address
belongs to one instance, and passes a timeout with each call. The objects above it
(``Toxiproxy``, ``Proxy``) are tied to the one shared class, so they are not used.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, ProxyExists
from toxiproxy.exceptions import NotFound as NoSuchThing

from chaos.engines.base import (
    AlreadyExists,
    BadRequest,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NotFound,
)
from chaos.faults.base import Toxic
from chaos.process import ProcessError, Supervisor

CALL_S = 2.0  # to connect, and again for each wait for bytes; an engine answers in milliseconds


@dataclass(frozen=True, slots=True)
class ProxyState:
    """One proxy as the server tells it."""

    name: str
    listen: str  # "host:port", the port that is really bound
    upstream: str
    enabled: bool


class Client:
    """One Toxiproxy server.

    Args:
        url: "http://host:port"
        timeout_s: bound of each call.
    Raises:
        EngineTimeout, EngineRefused: on every method.
    """

    def __init__(self, url: str, *, timeout_s: float = CALL_S) -> None:
        address = urlsplit(url)
        self.url = url
        self._timeout_s = timeout_s
        self._api: Any = type(
            "Consumer", (APIConsumer,), {"host": address.hostname, "port": address.port or 8474}
        )

    def version(self) -> str:
        answer = self._call("get", "/version", parse=False)
        try:
            return str(json.loads(answer)["version"])
        except (ValueError, TypeError, KeyError):  # servers before 2.3 answer in plain text
            return str(answer).strip()

    def proxies(self) -> dict[str, ProxyState]:
        return {name: _proxy_state(proxy) for name, proxy in self._call("get", "/proxies").items()}

    def create_proxy(
        self, name: str, *, upstream: str, listen: str = "127.0.0.1:0", enabled: bool = True
    ) -> ProxyState:
        body = {"name": name, "listen": listen, "upstream": upstream, "enabled": enabled}
        return _proxy_state(self._call("post", "/proxies", json=body))

    def delete_proxy(self, name: str) -> None:
        self._call("delete", f"/proxies/{quote(name)}", parse=False)

    def set_enabled(self, name: str, enabled: bool) -> ProxyState:
        return _proxy_state(self._call("post", f"/proxies/{quote(name)}", json={"enabled": enabled}))

    def set_upstream(self, name: str, upstream: str) -> ProxyState:
        return _proxy_state(self._call("post", f"/proxies/{quote(name)}", json={"upstream": upstream}))

    def toxics(self, proxy: str) -> list[Toxic]:
        return [_toxic(toxic) for toxic in self._call("get", f"/proxies/{quote(proxy)}/toxics")]

    def counts(self, proxy: str, name: str) -> dict[str, int]:
        answer = self._call("get", f"/proxies/{quote(proxy)}/toxics/{quote(name)}")
        return dict(answer.get("counts") or {})

    def add_toxic(self, proxy: str, toxic: Toxic) -> Toxic:
        body: dict[str, Any] = {
            "name": toxic.name,
            "type": toxic.type,
            "stream": toxic.stream,
            "toxicity": toxic.toxicity,
            "attributes": dict(toxic.attributes),
        }
        if toxic.ordinals is not None:
            body["ordinals"] = list(toxic.ordinals)
        if toxic.live:
            body["live"] = True
        return _toxic(self._call("post", f"/proxies/{quote(proxy)}/toxics", json=body))

    def update_toxic(
        self, proxy: str, name: str, *, attributes: Mapping[str, Any], toxicity: float | None = None
    ) -> Toxic:
        body: dict[str, Any] = {"attributes": dict(attributes)}
        if toxicity is not None:
            body["toxicity"] = toxicity
        return _toxic(self._call("post", f"/proxies/{quote(proxy)}/toxics/{quote(name)}", json=body))

    def remove_toxic(self, proxy: str, name: str) -> None:
        self._call("delete", f"/proxies/{quote(proxy)}/toxics/{quote(name)}", parse=False)

    def _call(self, method: str, path: str, *, parse: bool = True, **body: Any) -> Any:
        """Send one request; the parsed JSON of the answer, or its text."""
        try:
            # requests would send even loopback traffic to a proxy that the environment names
            answer = getattr(self._api, method)(
                path, timeout=self._timeout_s, proxies={"no_proxy": self._api.host}, **body
            )
        except (ProxyExists, NoSuchThing, InvalidToxic) as error:
            status, kind = _REFUSALS[type(error)]
            raise kind(status, _reason(error.args[0])) from None
        except OSError as error:  # every error of requests is one
            raise EngineTimeout(f"{self.url}{path} does not answer: {error}") from error
        if answer.status_code >= 300:
            raise EngineRefused(answer.status_code, _reason(answer.content))
        if not parse:
            return answer.text
        try:
            return answer.json()
        except ValueError as error:
            raise EngineError(f"{self.url}{path} answers with no JSON: {answer.text[:80]!r}") from error


_REFUSALS: dict[type, tuple[int, type[EngineRefused]]] = {
    ProxyExists: (409, AlreadyExists),
    NoSuchThing: (404, NotFound),
    InvalidToxic: (400, BadRequest),
}


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, TypeError, KeyError):
        return content.decode(errors="replace").strip()[:200]


def _proxy_state(answer: Mapping[str, Any]) -> ProxyState:
    return ProxyState(answer["name"], answer["listen"], answer["upstream"], answer["enabled"])


def _toxic(answer: Mapping[str, Any]) -> Toxic:
    ordinals = answer.get("ordinals")
    return Toxic(
        answer["name"],
        answer["type"],
        answer["stream"],
        answer["toxicity"],
        dict(answer["attributes"] or {}),
        ordinals=None if ordinals is None else tuple(ordinals),
        live=bool(answer.get("live")),
    )


class ApiEngine(ABC):
    """An Engine over that API. A subclass says how its server is found or started."""

    name: ClassVar[str]
    claims: ClassVar[frozenset[str]]

    def __init__(self, *, toxiproxy: str = "") -> None:
        self._toxiproxy = toxiproxy
        self._client: Client | None = None
        self._version = ""
        self._prefix = ""
        self._mine: dict[str, tuple[str, ...]] = {}  # the run's name of a proxy -> the server's, one or more
        self.abilities = self.claims
        self.frame_view = ""
        self.allow_targets: tuple[str, ...] = ()
        self.listen_host = "127.0.0.1"

    def start(
        self,
        supervisor: Supervisor,
        *,
        log_dir: Path,
        run_id: str,
        seed: int = 0,
        frame_view: str = "",
        allow_targets: tuple[str, ...] = (),
        listen_host: str = "127.0.0.1",
    ) -> None:
        self.frame_view, self.allow_targets, self.listen_host = frame_view, allow_targets, listen_host
        try:
            self._client = self._reach(supervisor, log_dir, seed)
        except ProcessError as error:
            raise EngineUnavailable(f"engine {self.name} does not start: {error}") from error
        self._version = self._client.version()
        self._prefix = f"chatproof-{run_id}-"

    @staticmethod
    def cannot(ability: str) -> str:
        return ""

    @abstractmethod
    def _reach(self, supervisor: Supervisor, log_dir: Path, seed: int) -> Client:
        """A client of a server that answers."""

    @property
    def client(self) -> Client:
        if self._client is None:
            raise EngineError(f"engine {self.name} is not started")
        return self._client

    @property
    def version(self) -> str:
        return self._version

    def describe(self) -> str:
        return f"{self.name} {self._version}"

    def create(self, names: tuple[str, ...], *, upstream: str) -> dict[str, str]:
        listens = {}
        where = f"[{self.listen_host}]:0" if ":" in self.listen_host else f"{self.listen_host}:0"
        for name in names:
            before = self._mine.get(name, ())
            theirs = self._prefix + name + (f"-{len(before) + 1}" if before else "")
            listens[name] = self.client.create_proxy(theirs, upstream=upstream, listen=where).listen
            self._mine[name] = (*before, theirs)
        return listens

    def add_toxic(self, proxy: str, toxic: Toxic) -> Mapping[str, Any]:
        added, *_ = [self.client.add_toxic(name, toxic) for name in self._names(proxy)]
        return {
            "name": added.name,
            "type": added.type,
            "stream": added.stream,
            "toxicity": added.toxicity,
            "attributes": added.attributes,
        }

    def remove_toxic(self, proxy: str, name: str) -> bool:
        return any([self._removed(each, name) for each in self._names(proxy)])

    def counts(self, proxy: str, name: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        for each in self._names(proxy):
            total.update(self.client.counts(each, name))
        return dict(total)

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        for each in self._names(proxy):
            state = self.client.set_enabled(each, enabled)
            if state.enabled != enabled:
                raise EngineError(
                    f"proxy {proxy!r} has enabled = {state.enabled} after being set to {enabled}"
                )

    def reroute(self, proxy: str, upstream: str) -> None:
        for each in self._names(proxy):
            state = self.client.set_upstream(each, upstream)
            if state.upstream != upstream:
                raise EngineError(f"proxy {proxy!r} leads to {state.upstream} after being led to {upstream}")

    def toxics(self, proxy: str) -> list[Toxic]:
        """Of its first proxy; the others have the same."""
        return self.client.toxics(self._names(proxy)[0])

    def reset(self) -> None:
        for name in self._mine:
            for toxic in self.toxics(name):
                self.remove_toxic(name, toxic.name)
            self.set_enabled(name, True)

    def close(self) -> list[str]:
        problems = []
        for name, proxies in list(self._mine.items()):
            left = []
            for theirs in proxies:
                try:
                    with contextlib.suppress(NotFound):  # gone is what is wanted
                        self.client.delete_proxy(theirs)
                except EngineError as error:
                    left.append(theirs)
                    problems.append(f"proxy {theirs!r} is left behind: {error}")
            if left:
                self._mine[name] = tuple(left)
            else:
                del self._mine[name]
        return problems

    def _removed(self, theirs: str, toxic: str) -> bool:
        try:
            self.client.remove_toxic(theirs, toxic)
        except NotFound:
            return False
        return True

    def _names(self, proxy: str) -> tuple[str, ...]:
        if proxy not in self._mine:
            raise EngineError(f"no proxy {proxy!r}: this run made {', '.join(self._mine) or 'none'}")
        return self._mine[proxy]
