"""A real balancer before the nodes: an HAProxy as a process of the run, if ``[server] balancer`` says so.

Clients dial it and nothing else; it chooses the node as ``[workload] balance`` says, and leaves out one whose
/readyz is not answered with 200. The wires of a node are between it and the node, so a fault on ``node-2`` is
on all that came there; a half of the clients (``a``, ``b``) is a backend of its own, by the ordinal in the
path that they dial. /readyz is asked of the node itself, past the wires: only its own state takes it out.
Those that come over HTTP have a port and backends of their own, where a client stays on its node while that
is up: any node could answer its next request, but what a fault on one did is measured by who was there.

Sources: HAProxy 2.6, Configuration Manual, § 3 to § 7; chaos.wires.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Final

from chaos.process import ProcessSpec, Supervisor
from chaos.wires import HALVES
from loadgen.balance import Policy

from .ready import START_S, Address, StageFailed, answers, await_ready, in_url
from .rundir import RunDirectory
from .server import Server

HOST: Final = "127.0.0.1"
READY: Final = "/readyz"  # of the balancer: it answers this itself, and of the nodes
WHERE: Final = ("haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy")  # PATH of a user lacks sbin
REMEDY: Final = "`make haproxy` installs Debian's, or put one on PATH"
ROOM: Final = 2  # connections of one client: one that is ending, and the next
ROOM_HTTP: Final = 4  # a stream or a poll, and a post
SPARE: Final = 256  # connections that are no client's: probes, and those of a server's own
POINTS: Final = 16  # weight: HAProxy puts 16 points for each on the ring of consistent hashing

ALGORITHMS: Final[Mapping[Policy, tuple[str, ...]]] = {
    "round_robin": ("balance roundrobin",),
    "least": ("balance leastconn",),
    "two_choices": ("balance random(2)",),
    "hash": ("balance url_param c", "hash-type consistent wt6 avalanche"),
}

# A node is asked again elsewhere for a client that it could not take; nothing of an upgrade has happened
# before its 101, so this is safe. An upgraded connection lives as long as its two ends let it.
_GLOBAL: Final = """\
global
    log stdout format iso local0
    zero-warning
    nbthread 1
    maxconn {most}

defaults
    mode http
    log global
    option httplog
    option dontlognull
    option http-server-close
    http-reuse never
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout 503
    timeout connect 1s
    timeout http-request 5s
    timeout client 5s
    timeout server 5s
    timeout check 1s
    timeout tunnel 1h
    timeout client-fin 5s
    timeout server-fin 5s
"""
_CHECKS: Final = (
    "option httpchk",
    f"http-check send meth GET uri {READY} ver HTTP/1.1 hdr Host {HOST}",  # 1.1 wants a host
    "http-check expect status 200",
)
_EACH: Final = "check inter 250ms fall 2 rise 1"


# The longest silence on it is a poll's or a stream's, and is no fault. What a POST did is not known when its
# answer is missing, so it is not sent to another node as a GET is; small pieces of a stream do not wait.
_HTTP: Final = """
    timeout client {silence_s}s
    timeout http-keep-alive 1h
    option http-no-delay
"""
_HTTP_BACKEND: Final = ("timeout server {silence_s}s", "http-request disable-l7-retry if METH_POST")


@dataclass(frozen=True, slots=True)
class Behind:
    """A node as the balancer knows it. ``wires``: HOST:PORT where clients enter, one for each half of them or
    one for all, and ``http``: the same of those that come over HTTP; ``pages``: where the node answers
    /readyz."""

    name: str
    wires: tuple[str, ...]
    pages: Address
    http: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OverHttp:
    """Where clients over HTTP dial, and how long nothing may be heard on a connection of theirs."""

    listen: Address
    silence_s: float


def config_text(
    listen: Address,
    policy: Policy,
    nodes: Sequence[Behind],
    *,
    clients: int,
    http: OverHttp | None = None,
) -> str:
    """haproxy.cfg of a run.

    Args:
        clients: of the load; so many connections are held, and then some.
        http: of those that come over HTTP; None: nobody does.
    """
    backends = HALVES if len(nodes[0].wires) > 1 else ("nodes",)
    checked = backends[0]
    parts = [_frontend("clients", listen, backends, checked)]
    parts += [
        _backend(name, policy, [(node, node.wires[half]) for node in nodes], checked=checked)
        for half, name in enumerate(backends)
    ]
    if http is not None:
        over = [f"{name}-http" for name in backends]
        own = _HTTP.format(silence_s=math.ceil(http.silence_s)).splitlines()[1:]
        parts.append(["", *_frontend("clients-http", http.listen, over, checked, own)])
        stays = [line.format(silence_s=math.ceil(http.silence_s)) for line in _HTTP_BACKEND]
        if policy != "hash":  # which finds the same node by itself
            stays += [f"stick-table type integer size {clients + SPARE}", "stick on url_param(c)"]
        parts += [
            _backend(name, policy, [(node, node.http[half]) for node in nodes], checked=checked, more=stays)
            for half, name in enumerate(over)
        ]
    head = _GLOBAL.format(most=(ROOM if http is None else ROOM_HTTP) * clients + SPARE)
    return head + "\n" + "\n".join(chain(*parts)) + "\n"


def _frontend(
    name: str, listen: Address, backends: Sequence[str], checked: str, more: Sequence[str] = ()
) -> list[str]:
    """Where clients come in: each to the backend of its half."""
    return [
        f"frontend {name}",
        f"    bind {in_url(listen)}",
        *more,
        f"    monitor-uri {READY}",
        f"    monitor fail if {{ nbsrv({checked}) eq 0 }}",
        *(
            f"    use_backend {backend} if {{ url_param(c),mod({len(backends)}) eq {place} }}"
            for place, backend in enumerate(backends[:-1])
        ),
        f"    default_backend {backends[-1]}",
    ]


def _backend(
    name: str,
    policy: Policy,
    servers: Sequence[tuple[Behind, str]],
    *,
    checked: str,
    more: Sequence[str] = (),
) -> list[str]:
    """One half of the clients. A node is checked for the backend ``checked``, and the others go by that.

    Args:
        servers: each node, and where its clients of this backend enter.
        more: lines of its own.
    """
    first = name == checked
    weight = f" weight {POINTS}" if policy == "hash" else ""
    lines = ["", f"backend {name}"]
    lines += (f"    {line}" for line in (*ALGORITHMS[policy], *(_CHECKS if first else ()), *more))
    for node, wire in servers:
        host, port = node.pages
        how = f"{_EACH} addr {host} port {port}" if first else f"track {checked}/{node.name}"
        lines.append(f"    server {node.name} {wire}{weight} {how}")
    return lines


def program() -> str | None:
    """The haproxy of this machine, if it has one."""
    return next((found for each in WHERE if (found := shutil.which(each))), None)


def lacking(server: Server) -> list[str]:
    """What this machine lacks for the balancer of a scenario, a line each."""
    if not server.balancer or program() is not None:
        return []
    return [f"server.balancer is {server.balancer!r}, and there is no haproxy here: {REMEDY}"]


def start_balancer(
    name: str, listen: Address, config: str, supervisor: Supervisor, rundir: RunDirectory
) -> str:
    """Start it, and wait until it has a node to send clients to; its version.

    Args:
        config: its ``config_text``.
    Raises:
        StageFailed: there is no haproxy, or it does not start; with the end of its log.
    """
    if (found := program()) is None:
        raise StageFailed(f"there is no haproxy here: {REMEDY}")
    path = rundir.path / f"config/{name}.cfg"
    path.write_text(config, encoding="utf-8")
    process = supervisor.start(
        ProcessSpec(
            name=name,
            argv=(found, "-db", "-f", str(path)),  # one process, in the foreground
            log=rundir.path / f"logs/{name}.log",
            role="target",
        )
    )
    await_ready(supervisor, process, partial(answers, *listen, READY), what=f"the balancer {name}")
    return version(found)


def version(path: str) -> str:
    """What it says of itself: "2.6.12-1+deb12u4"; "" if it does not."""
    told = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=START_S, check=False).stdout
    found = re.search(r"version (\S+)", told)
    return found[1] if found else ""
