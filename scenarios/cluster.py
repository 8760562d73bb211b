"""The system under test: chatds as processes of the run, ready before anyone dials; or one that is there.

Each node listens on a port of its own, keeps it when it is started again, and names what clients dial as its
address. Where the run has a broker of its own, that is started first; a balancer before them comes last.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from chaos.process import ProcessSpec, Supervisor
from loadgen.drivers import DRIVERS
from loadgen.trust import Tls
from loadgen.workload import LoadNode, Workload

from .balancer import HOST, Behind, OverHttp, config_text, start_balancer
from .broker import Brokers, start_brokers
from .layout import Layout, Node
from .ready import Address, answers, await_ready, free_port, in_url, listens
from .rundir import RunDirectory
from .server import SCHEME, Server
from .wiring import Wiring

LOOPBACK = "127.0.0.1"
PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
OURS = {
    "url",
    "http_url",
    "command",
    "tls",
    "nodes",
    "replicas",
    "balancer",
    "mutant_node",
}  # how to run it: no keys of its own


@dataclass(frozen=True, slots=True)
class Member:
    """One node as it runs. ``pages``: where it answers /readyz, /nodes and /metrics in plain HTTP; None where
    nobody is known to. ``dialled``: URLs that clients of the load dial, one for each half of them; over HTTP
    they dial ``dialled_http`` of ``http_url``, where there is one."""

    node: Node
    url: str
    dialled: tuple[str, ...]
    pages: Address | None = None
    http_url: str = ""
    dialled_http: tuple[str, ...] = ()

    @property
    def wires(self) -> tuple[str, ...]:
        """HOST:PORT of ``dialled``."""
        return tuple(urlsplit(url).netloc for url in self.dialled)

    @property
    def wires_http(self) -> tuple[str, ...]:
        """HOST:PORT of ``dialled_http``."""
        return tuple(urlsplit(url).netloc for url in self.dialled_http)


@dataclass(frozen=True, slots=True)
class Cluster:
    """All nodes, those that come later too. ``balancer``: where one before them listens, by process;
    ``balancer_http``: the same for clients over HTTP, if there are any."""

    members: tuple[Member, ...]
    brokers: Brokers | None = None  # of the run's own
    balancer: Mapping[str, Address] = field(default_factory=dict)
    balancer_version: str = ""
    balancer_http: Address | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the nodes themselves."""
        return tuple(member.url for member in self.members)

    @property
    def host(self) -> str:
        """What clients say in the header Host where a proxy is before the nodes; "": what they dial."""
        return "" if self.balancer else urlsplit(self.urls[0]).netloc

    @property
    def http_host(self) -> str:
        """The same of those that come over HTTP."""
        return "" if self.balancer else urlsplit(self.members[0].http_url).netloc

    @property
    def targets(self) -> tuple[str, ...]:
        """What clients of the load dial, as ``LoadSpec.targets`` orders it."""
        if self.balancer:
            return tuple(f"ws://{in_url(address)}" for address in self.balancer.values())
        return tuple(url for member in self.members for url in member.dialled)

    @property
    def http_targets(self) -> tuple[str, ...]:
        """The same over HTTP; none where the server has it off, or nobody comes so through a balancer."""
        if self.balancer:
            return (f"http://{in_url(self.balancer_http)}",) if self.balancer_http else ()
        return tuple(url for member in self.members for url in member.dialled_http)

    def dialled(self, workload: Workload) -> tuple[str, ...]:
        """All that a worker on another host has to be allowed to load."""
        return (*self.targets, *(self.http_targets if workload.over_http else ()))

    @property
    def pages(self) -> dict[str, Address]:
        """Where the nodes answer, by process."""
        return {m.node.process: m.pages for m in self.members if m.pages is not None}

    @property
    def asked(self) -> dict[str, Address]:
        """Where /readyz is answered, by process: by the nodes and by what is before them."""
        return {**self.pages, **self.balancer} if self.pages else {}

    @property
    def load_nodes(self) -> tuple[LoadNode, ...]:
        """What the load is told of the nodes; of one there is nothing to choose, nor behind a balancer."""
        if len(self.members) == 1 or self.balancer:
            return ()
        return tuple(
            LoadNode(name=m.node.name, pages=in_url(m.pages) if m.pages else "") for m in self.members
        )

    def told(self) -> list[dict[str, Any]]:
        """What run.json says of the nodes."""
        return [
            {"name": m.node.name, "process": m.node.process, "url": m.url, "dialled": list(m.dialled)}
            for m in self.members
        ]


def trusted(server: Server, url: str) -> Tls:
    """What clients of the target trust: a chatd of the run's own is known by its own certificate.

    Args:
        url: of a server that the run did not start; by another one it may be known by another name.
    """
    host = str(urlsplit(url).hostname) if server.url and url else server.host
    ca = server.tls.ca or (None if server.url else server.tls_cert)
    return Tls(ca=ca, server_name=server.tls.server_name or host)


def start_cluster(
    server: Server,
    layout: Layout,
    wiring: Wiring,
    supervisor: Supervisor,
    rundir: RunDirectory,
    *,
    workload: Workload,
    hooks: bool = False,
    later: frozenset[str] = frozenset(),
) -> Cluster:
    """Start the brokers, then all nodes but ``later`` ones and the balancer, and wait until they are ready.

    Args:
        workload: how it is balanced, and over how many clients.
        hooks: some fault of the plan needs chatd's test hooks.
        later: processes that are only made known to the supervisor.
    Raises:
        StageFailed: something ended at once, or was not ready in time; with the end of its log.
    """
    if server.url:
        node, http_url = layout.nodes[0], server.http_url
        dialled_http = _behind(wiring, node, http_url) if http_url else ()
        url = server.url
        return Cluster((Member(node, url, _behind(wiring, node, url), None, http_url, dialled_http),))
    if server.own:
        return Cluster((_own(server, layout.nodes[0], wiring, supervisor, rundir),))
    brokers = start_brokers(layout, wiring, supervisor, rundir)
    store = server.store.removeprefix(SCHEME) if server.shared else ""
    if brokers is not None:
        store = in_url(brokers.first) + "/0"
    # Whoever is sent away comes back by the balancer: it alone is what clients can reach.
    balancer = {layout.balancer: (HOST, free_port(HOST))} if layout.balancer else {}
    advertise = "".join(f"ws://{in_url(address)}" for address in balancer.values())
    members, started = [], []
    for node in layout.nodes:
        member, spec = _chatd(server, node, wiring, rundir, store=store, advertise=advertise, hooks=hooks)
        members.append(member)
        if node.process in later:
            supervisor.prepare(spec)
        else:
            started.append((supervisor.start(spec), member.pages))
    for process, pages in started:
        assert pages is not None
        what = "chatd" if len(members) == 1 else process.spec.name
        await_ready(supervisor, process, partial(answers, *pages, "/readyz"), what=what)
    behind = [Behind(m.node.name, m.wires, m.pages, m.wires_http) for m in members if m.pages]
    version, http = "", None
    for name, listen in balancer.items():
        if workload.over_http:
            http = OverHttp((HOST, free_port(HOST)), server.ping_s + server.pong_s)
        config = config_text(listen, workload.balance, behind, clients=workload.clients, http=http)
        version = start_balancer(name, listen, config, supervisor, rundir)
    return Cluster(tuple(members), brokers, balancer, version, http.listen if http else None)


def _behind(wiring: Wiring, node: Node, url: str) -> tuple[str, ...]:
    """What clients dial to reach a URL of a node."""
    parts = urlsplit(url)
    address = in_url((str(parts.hostname), parts.port or PORTS[parts.scheme]))
    return tuple(
        url if wire == address else f"{parts.scheme}://{wire}{parts.path}"
        for wire in wiring.before(node, address)
    )


def _own(server: Server, node: Node, wiring: Wiring, supervisor: Supervisor, rundir: RunDirectory) -> Member:
    """Start a server that is no chatd, and wait until it listens."""
    address = server.host, server.port or free_port(server.host)
    url = f"ws://{in_url(address)}"
    data = rundir.path / "data" / node.process
    data.mkdir(parents=True)
    argv = server.own_argv(port=address[1], data=str(data))
    log = rundir.path / f"logs/{node.process}.log"
    process = supervisor.start(ProcessSpec(name=node.process, argv=argv, log=log, role="target"))
    await_ready(
        supervisor, process, partial(listens, *address), what=f"the program of server.command ({argv[0]})"
    )
    return Member(node, url, _behind(wiring, node, url))


def _chatd(
    server: Server,
    node: Node,
    wiring: Wiring,
    rundir: RunDirectory,
    *,
    store: str,
    advertise: str,
    hooks: bool,
) -> tuple[Member, ProcessSpec]:
    """A node that is about to be started, and how. ``advertise``: the URL that it names; "": its wire's."""
    address = server.host, server.port or free_port(server.host)
    secure = "s" if server.tls_cert else ""
    url = f"ws{secure}://{in_url(address)}"
    dialled = _behind(wiring, node, url)
    # chatd would take another one at each start; clients and proxies know only this.
    http_port = server.http_port if isinstance(server.http_port, int) else free_port(server.host)
    http_url = f"http{secure}://{in_url((server.host, http_port))}" if http_port else ""
    dialled_http = _behind(wiring, node, http_url) if http_url else ()
    own = server.model_dump(mode="json", exclude=OURS, exclude_unset=bool(server.command))
    config: dict[str, Any] = own | {
        "port": address[1],
        "node": node.name,
        "data": str(rundir.path / "data" / node.process),
    }
    if http_port:
        config |= {"http_port": http_port}
    if server.nodes > 1:
        config |= {"advertise": (advertise or dialled[0]) + urlsplit(DRIVERS["chatd"].path(0)).path}
    if server.mutant_node and server.mutant_node != node.process:
        config |= {"mutant": ""}
    if store:
        broker, slash, rest = store.partition("/")
        config |= {"store": SCHEME + wiring.link(node, broker) + slash + rest}
    pages: Address = address
    if hooks or server.tls_cert:
        pages = LOOPBACK, server.admin_port or free_port(LOOPBACK)
        config |= {"admin_port": pages[1]} | ({"test_hooks": True} if hooks else {})
    path = rundir.write_json(f"config/{node.process}.json", config)
    argv = (*(server.command or (sys.executable, "-m", "chatd")), "--config", str(path))
    spec = ProcessSpec(
        name=node.process,
        argv=argv,
        log=rundir.path / f"logs/{node.process}.log",
        role="target",
        hooks=in_url(pages) if hooks else "",
    )
    return Member(node, url, dialled, pages, http_url, dialled_http), spec
