"""Prometheus text: Toxiproxy's two counters under their names, live, and a few of our own."""

from collections.abc import Iterable, Iterator

from chaos.proxy.proxy import Proxy

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(proxies: Iterable[Proxy]) -> str:
    """All samples, each family together."""
    families: dict[str, list[str]] = {}
    for name, kind, labels, value in samples(proxies):
        family = families.setdefault(name, [f"# TYPE {name} {kind}"])
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        family.append(f"{name}{{{shown}}} {value}")
    return "".join(f"{line}\n" for family in families.values() for line in family)


def samples(proxies: Iterable[Proxy]) -> Iterator[tuple[str, str, dict[str, str], int]]:
    """(name, type, labels, value)."""
    for proxy in proxies:
        where = {"proxy": proxy.name, "listener": proxy.listen, "upstream": proxy.upstream}
        for direction, received, sent in proxy.traffic():
            labels = {"direction": direction, **where}
            yield "toxiproxy_proxy_received_bytes_total", "counter", labels, received
            yield "toxiproxy_proxy_sent_bytes_total", "counter", labels, sent
        for toxic in proxy.shown_toxics():
            for what, count in toxic.counts.items():
                labels = {"proxy": proxy.name, "toxic": toxic.name, "what": what}
                yield "chatproof_proxy_toxic_total", "counter", labels, count
        yield "chatproof_proxy_connections", "gauge", {"proxy": proxy.name}, len(proxy.connections)
        yield "chatproof_proxy_accepted_total", "counter", {"proxy": proxy.name}, proxy.accepted
        yield "chatproof_proxy_dial_failures_total", "counter", {"proxy": proxy.name}, proxy.dial_failures


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
