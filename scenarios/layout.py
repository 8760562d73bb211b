"""What a run consists of on the server's side, by name: nodes, brokers, wires. Pure.

Node k is the process ``chatd-k`` and calls itself ``nk``; a server that is no chatd
is ``server-1``. The run's own broker is ``broker-1``, its replica
``broker-2``; a balancer before the nodes is ``balancer-1``. What the wires are called: ``chaos.wires``.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos import wires

from .server import Server


@dataclass(frozen=True, slots=True)
class Node:
    """One chatd of a run. ``proxies``: before it, for the clients."""

    number: int
    proxies: tuple[str, ...]
    kind: str = "chatd"

    @property
    def process(self) -> str:
        return f"{self.kind}-{self.number}"

    @property
    def name(self) -> str:
        """What it calls itself: ends in its number, which records carry."""
        return f"n{self.number}"

    @property
    def link(self) -> str:
        return f"link-{self.number}"


@dataclass(frozen=True, slots=True)
class Layout:
    """All nodes and brokers, whether they are there from the beginning or not."""

    nodes: tuple[Node, ...]
    brokers: tuple[str, ...]
    linked: bool  # there is a broker to be cut off from
    started: bool  # the nodes are processes of the run
    balancer: str = ""  # "" where clients dial the nodes

    @property
    def processes(self) -> tuple[str, ...]:
        """What faults on processes may be aimed at."""
        balancers = filter(None, (self.balancer,))
        nodes = (node.process for node in self.nodes)
        return (*nodes, *self.brokers, *balancers) if self.started else ()

    @property
    def proxies(self) -> tuple[str, ...]:
        """What faults on wires may be aimed at: those of clients, then links."""
        clients = wires.proxies(len(self.nodes))
        links = wires.links(len(self.nodes)) if self.linked else ()
        return (*clients, *links, *((wires.REPLICA,) if len(self.brokers) > 1 else ()))


def layout(server: Server) -> Layout:
    """The layout that a [server] section asks for."""
    names = wires.proxies(server.nodes)
    each = len(wires.HALVES)
    kind = "server" if server.own else "chatd"
    nodes = tuple(
        Node(number + 1, names[number * each : (number + 1) * each], kind) for number in range(server.nodes)
    )
    brokers = (
        tuple(f"broker-{number}" for number in range(1, 2 + server.replicas)) if server.own_broker else ()
    )
    return Layout(
        nodes,
        brokers,
        linked=server.shared and not server.url,
        started=not server.url,
        balancer="balancer-1" if server.balancer else "",
    )
