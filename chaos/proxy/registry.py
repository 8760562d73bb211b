"""All proxies of the process, by name: what the API's requests do.

Every method checks its input whole before it changes anything, but for ``populate``,
which like Toxiproxy creates in order and stops at the first address that cannot be bound.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.proxy.address import AddressError, Policy
from chaos.proxy.body import ApiError, as_object, bad_body, flag, new_toxic, text, toxicity, with_attributes
from chaos.proxy.chain import ActiveToxic
from chaos.proxy.events import Events
from chaos.proxy.frame_view import FrameView
from chaos.proxy.proxy import Proxy
from chaos.proxy.toxics.base import Toxic, WantsView

MAX_PROXIES = 1000
MAX_TOXICS = 100  # per proxy


@dataclass(frozen=True, slots=True)
class NewProxy:
    """A proxy that was asked for."""

    proxy: Proxy
    enabled: bool


class Registry:
    """The proxies, and the requests that change them, one at a time."""

    def __init__(self, *, seed: int, policy: Policy, view: FrameView | None = None) -> None:
        self.proxies: dict[str, Proxy] = {}
        self.events = Events()
        self._seed = seed
        self._policy = policy
        self._view = view
        self._one_at_a_time = asyncio.Lock()

    def get(self, name: str) -> Proxy:
        """Raises ApiError: 404."""
        if proxy := self.proxies.get(name):
            return proxy
        raise ApiError("proxy not found", 404)

    def toxic(self, proxy: str, name: str) -> ActiveToxic:
        """Raises ApiError: 404."""
        if toxic := self.get(proxy).toxic(name):
            return toxic
        raise ApiError("toxic not found", 404)

    async def create(self, body: object) -> Proxy:
        """Raises ApiError: 400, 403, 409, or 500 when the address cannot be bound."""
        new = self._new(as_object(body, "the body"), "")
        async with self._one_at_a_time:
            if new.proxy.name in self.proxies:
                raise ApiError("proxy already exists", 409)
            await self._add(new)
        return new.proxy

    async def populate(self, body: object) -> tuple[list[Proxy], ApiError | None]:
        """Create, or replace where listen or upstream differ.

        Returns:
            What stands now, as far as it got, and what stopped it.
        """
        done: list[Proxy] = []
        try:
            if not isinstance(body, list | None):
                raise bad_body("must be an array of proxies")
            new = [
                self._new(as_object(item, f"proxy {number}"), f" at proxy {number}")
                for number, item in enumerate(body or (), 1)
            ]
            async with self._one_at_a_time:
                for each in new:
                    done.append(await self._add_or_replace(each))
        except ApiError as error:
            return done, error
        return done, None

    async def update(self, name: str, body: object) -> Proxy:
        """Raises ApiError: 400, 403, 404, or 500 when the address cannot be bound."""
        async with self._one_at_a_time:
            proxy = self.get(name)
            fields = as_object(body, "the body")
            listen = text(fields, "listen", proxy.listen)
            upstream = text(fields, "upstream", proxy.upstream)
            enabled = flag(fields, "enabled", proxy.enabled)
            with _answered():
                await proxy.update(listen, upstream, enabled=enabled)
            return proxy

    async def delete(self, name: str) -> None:
        """Raises ApiError: 404."""
        async with self._one_at_a_time:
            self.get(name).stop()
            del self.proxies[name]

    async def reset(self) -> None:
        """Remove every toxic and start every proxy; what can be reset is, whatever fails.

        Raises:
            ApiError: 500, some proxy's address cannot be bound.
        """
        failed: ApiError | None = None
        async with self._one_at_a_time:
            for proxy in self.proxies.values():
                proxy.remove_toxics(proxy.toxics)
                await proxy.settle()
                try:
                    with _answered():
                        await proxy.start()
                except ApiError as error:
                    failed = failed or error
        if failed:
            raise failed

    async def settle(self, proxy_name: str) -> None:
        """Let a change of toxics reach the proxy's listening; to be called after each."""
        async with self._one_at_a_time:
            if proxy := self.proxies.get(proxy_name):
                await proxy.settle()

    def add_toxic(self, proxy_name: str, body: object) -> ActiveToxic:
        """Raises ApiError: 400, 404, 409."""
        proxy = self.get(proxy_name)
        toxic = self._toxic(body)
        if proxy.toxic(toxic.name):
            raise ApiError("toxic already exists", 409)
        if len(proxy.toxics) >= MAX_TOXICS:
            raise ApiError(f"{MAX_TOXICS} toxics is the most a proxy can have: remove one first", 400)
        proxy.add_toxic(toxic)
        return toxic

    def update_toxic(self, proxy_name: str, name: str, body: object) -> ActiveToxic:
        """Merge ``attributes`` and ``toxicity``; raises ApiError: 400, 404."""
        toxic = self.toxic(proxy_name, name)
        fields = as_object(body, "the body")
        share = toxicity(fields, toxic.toxicity)
        changed = with_attributes(toxic.toxic, fields.get("attributes"))
        self._check_view(changed)
        toxic.toxic = changed
        toxic.toxicity = share
        self.get(proxy_name).update_toxic(toxic)
        return toxic

    def remove_toxic(self, proxy_name: str, name: str) -> None:
        """Raises ApiError: 404."""
        toxic = self.toxic(proxy_name, name)
        self.get(proxy_name).remove_toxics([toxic])

    def close(self) -> None:
        """Stop every proxy, and end the streams of events."""
        for proxy in self.proxies.values():
            proxy.stop()
        self.events.close()

    def _new(self, fields: Mapping[str, Any], where: str) -> NewProxy:
        """A proxy that is not started; it may have toxics, as it may in what GET answers."""
        name, listen, upstream = text(fields, "name"), text(fields, "listen"), text(fields, "upstream")
        enabled = flag(fields, "enabled", True)
        for field, value in (("name", name), ("upstream", upstream)):
            if not value:
                raise ApiError(f"missing required field: {field}{where}", 400)
        with _answered():
            proxy = Proxy(
                name,
                listen,
                upstream,
                policy=self._policy,
                seed=self._seed,
                events=self.events,
                view=self._view,
            )
        toxics = fields.get("toxics", [])
        if not isinstance(toxics, list) or len(toxics) > MAX_TOXICS:
            raise bad_body(f"toxics{where}: must be an array of at most {MAX_TOXICS}")
        for toxic in map(self._toxic, toxics):
            if proxy.toxic(toxic.name):
                raise ApiError("toxic already exists", 409)
            proxy.toxics.append(toxic)
        proxy.sort_toxics()
        return NewProxy(proxy, enabled)

    def _toxic(self, body: object) -> ActiveToxic:
        toxic = new_toxic(body)
        self._check_view(toxic.toxic)
        return toxic

    def _check_view(self, toxic: Toxic) -> None:
        if self._view is None and isinstance(toxic, WantsView) and (name := toxic.wants_view()):
            value = getattr(toxic, name)
            raise bad_body(
                f"attributes.{name} is {value!r}: needs the server's frames read; "
                "start the proxy with --frame-view MODULE:ATTRIBUTE"
            )

    async def _add(self, new: NewProxy) -> None:
        if len(self.proxies) >= MAX_PROXIES and new.proxy.name not in self.proxies:
            raise ApiError(f"{MAX_PROXIES} proxies are the most there can be: delete one first", 400)
        if new.enabled:
            with _answered():
                await new.proxy.start()
        self.proxies[new.proxy.name] = new.proxy

    async def _add_or_replace(self, new: NewProxy) -> Proxy:
        if existing := self.proxies.get(new.proxy.name):
            with _answered():
                if not existing.differs(new.proxy.listen, new.proxy.upstream):
                    return existing
            existing.stop()
        await self._add(new)
        return new.proxy


@contextmanager
def _answered() -> Iterator[None]:
    """Turn an error of an address into an answer."""
    try:
        yield
    except AddressError as error:
        raise ApiError(str(error), error.status) from None
