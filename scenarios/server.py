"""[server]: the system under test, one chatd or several on one broker, and where it runs."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

import chatd.config
from loadgen.balance import POLICIES
from loadgen.trust import Tls
from loadgen.workload import HTTP_SCHEMES, Workload, is_loopback

BROKER = "valkey"  # as server.store: the run starts its own broker
SCHEME = "valkey://"  # and this begins the address of one that is there
MOST_NODES = 16  # each is a process of this machine
OF_OWN: Final = {"command", "host", "port", "tls"}  # keys for a server that is no chatd
BALANCER: Final = "haproxy"


class Server(chatd.config.Config):
    """``[server]``: chatd's own configuration, and where it runs. Port 0 takes a free one; the HTTP
    port is off unless asked for, so that a run has no port that it did not choose.

    ``nodes`` chatds share one store: ``store = "valkey"`` starts a broker for this run, with so many
    ``replicas`` of it, ``valkey://HOST:PORT/DB`` uses one that is there. ``mutant_node`` plants the mutant in
    one node alone, by its process: "chatd-2". ``balancer = "haproxy"`` puts one before them, which chooses
    a client's node in the client's place.

    With ``url`` the run talks to a server that it did not start, with ``http_url`` for clients that come over
    HTTP: no process faults then. ``tls.ca`` is a PEM
    file of what clients trust besides the machine's own authorities. ``command``
    starts another build of chatd than this one; it is given only the keys that the scenario sets, so
    that it may be an older one. A ``command`` with "{port}" in it starts a server of another kind: it is run
    as it stands, with "{port}", "{host}" and "{data}", a directory of this run, put in.
    """

    port: int = Field(default=0, ge=0, le=65535)
    http_port: int | Literal["auto", "free"] = Field(default=0)
    nodes: int = Field(default=1, ge=1, le=MOST_NODES)
    replicas: int = Field(default=0, ge=0, le=1)
    balancer: Literal["", "haproxy"] = ""
    mutant_node: Annotated[str, Field(pattern=r"^(chatd-[1-9]\d?)?$")] = ""
    url: str = ""
    http_url: str = ""
    command: tuple[str, ...] = ()
    tls: Tls = Tls()

    @property
    def shared(self) -> bool:
        """Whether the store is one that several nodes can share."""
        return self.store == BROKER or self.store.startswith(SCHEME)

    @property
    def own_broker(self) -> bool:
        """Whether the run starts the broker itself."""
        return self.store == BROKER and not self.url

    @property
    def own(self) -> bool:
        """Whether ``command`` starts a server that is no chatd."""
        return any("{port}" in argument for argument in self.command)

    @property
    def strange(self) -> bool:
        """Whether somebody else set it up: what it allows, and what it holds already, is not known."""
        return bool(self.url) or self.own

    def own_argv(self, *, port: int, data: str) -> tuple[str, ...]:
        """How a server that is no chatd is started."""
        values = {"{port}": str(port), "{host}": self.host, "{data}": data}
        return tuple(_filled(argument, values) for argument in self.command)

    @field_validator("store")
    @classmethod
    def _known_store(cls, store: str) -> str:
        shared = store == BROKER or store.startswith(SCHEME)
        return store if shared else chatd.config.Config._known_store(store)

    @field_validator("command")
    @classmethod
    def _can_be_started(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and shutil.which(command[0]) is None:
            raise ValueError(f"{command[0]!r} is no program here: name a file that can be executed")
        return command

    @field_validator("url")
    @classmethod
    def _is_websocket(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("must be ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]")
        return url

    @field_validator("http_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in HTTP_SCHEMES or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")
        return url

    @model_validator(mode="after")
    def _nodes_have_one_store(self) -> Server:
        if self.nodes > 1 and self.url:
            raise ValueError("nodes are processes of the run, and url names a server that it did not start")
        if self.nodes > 1 and not self.shared:
            raise ValueError(
                f"nodes is {self.nodes}: several nodes share a store, and {self.store!r} is "
                f'one node\'s own: write store = "{BROKER}", or {SCHEME}HOST:PORT/DB of one that is there'
            )
        if self.replicas and self.store != BROKER:
            raise ValueError(
                f'replicas is {self.replicas}: they are of the run\'s own broker, store = "{BROKER}"'
            )
        for key in ("port", "admin_port", "http_port"):
            if self.nodes > 1 and getattr(self, key) not in (0, None, "free"):
                raise ValueError(
                    f"{key} is {getattr(self, key)!r}: each of {self.nodes} nodes takes a free one"
                )
        if self.mutant_node and int(self.mutant_node.removeprefix("chatd-")) > self.nodes:
            raise ValueError(f"mutant_node is {self.mutant_node!r}: the last node is chatd-{self.nodes}")
        return self

    @model_validator(mode="after")
    def _own_is_no_chatd(self) -> Server:
        if not self.own:
            return self
        if self.url:
            raise ValueError(
                "url names a server that runs, and command with {port} starts one: leave one out"
            )
        if theirs := sorted(self.model_fields_set - OF_OWN):
            raise ValueError(
                f"{', '.join(theirs)}: for a chatd, and command with {{port}} starts another server: leave "
                "it out, or give it to the command"
            )
        return self

    @model_validator(mode="after")
    def _balancer_has_nodes(self) -> Server:
        if self.balancer and self.url:
            raise ValueError("balancer is a process of the run, and url names a server that it did not start")
        if self.balancer and self.nodes == 1:
            raise ValueError(
                f"balancer is {self.balancer!r}, and nodes is 1: there is nothing to choose from; write "
                "nodes = 2 or more, or leave it out"
            )
        if self.balancer and self.tls_cert:
            raise ValueError(
                f"balancer is {self.balancer!r}, and tls_cert is set: it reads what clients ask for, and has "
                "no certificate; leave one of them out"
            )
        return self


def own_faults(server: Server, workload: Workload) -> list[str]:
    """A driver whose server nobody starts."""
    if workload.driver == "chatd" or server.strange:
        return []
    return [
        f"workload.driver is {workload.driver!r}, and what the run would start is a chatd: write "
        'server.url of a server that runs, or server.command = ["PROGRAM", "--port", "{port}"] to '
        "have it started"
    ]


def target_faults(server: Server, allow_targets: Sequence[str]) -> list[str]:
    """Why it may not be loaded where it is, a line each."""
    named = {"server.url": server.url, "server.http_url": server.http_url} if server.url else {}
    hosts = {key: (url, urlsplit(url).hostname) for key, url in named.items()}
    lines = [
        f"{key} is {value!r}: load goes to loopback only, "
        f"unless you own the host and say --allow-target {host}"
        for key, (value, host) in (hosts or {"server.host": (server.host, server.host)}).items()
        if host and not is_loopback(host) and host not in allow_targets
    ]
    if server.http_url and not server.url:
        lines.append(
            f"server.http_url is {server.http_url!r}, and server.url is not set: it is of a server that "
            'the run did not start; write server.url too, or http_port = "free" for a chatd of the run\'s own'
        )
    broker = urlsplit(server.store).hostname if server.store.startswith(SCHEME) else None
    if broker and not is_loopback(broker) and broker not in allow_targets:
        lines.append(
            f"server.store is {server.store!r}: it is loaded too, and load goes to loopback only, "
            f"unless you own the host and say --allow-target {broker}"
        )
    if server.port and not server.url and is_loopback(server.host) and not _is_free(server.host, server.port):
        lines.append(f"server.port is {server.port}: the port is in use; take another, or 0 for a free one")
    return lines


def http_faults(server: Server, workload: Workload) -> list[str]:
    """Clients over HTTP without a place to go."""
    if not workload.over_http:
        return []
    if server.url and not server.http_url:
        return ["server.http_url is missing: some personas come over HTTP; write http://HOST:PORT"]
    if not server.url and server.http_port == 0:
        return ['server.http_port is 0, off: some personas come over HTTP; write http_port = "free"']
    return []


def balancer_faults(server: Server, workload: Workload) -> list[str]:
    """What does not go together with a balancer before the nodes."""
    if not server.balancer:
        return []
    lines = []
    if workload.balance == "fixed":
        others = ", ".join(policy for policy in POLICIES if policy != "fixed")
        lines.append(
            f"workload.balance is 'fixed', and server.balancer is {server.balancer!r}: it chooses the node, "
            f"so a client's cannot be fixed; take one of {others}"
        )
    return lines


def unread_faults(server: Server, workload: Workload) -> list[str]:
    """Channels that client 0 could not read back, or that chatd does not know."""
    needed = {"room": workload.channels or workload.topology.sized, "dm": workload.topology.direct_per_client}
    if server.url or not (server.namespaces or needed["dm"]):
        return []
    lines = [
        f"server.namespaces has no {prefix!r}, and the workload's channels begin with {prefix!r}: add "
        f"[server.namespaces.{prefix}]"
        for prefix, used in needed.items()
        if used and prefix not in server.namespaces
    ]
    direct = server.namespaces.get("dm")
    if needed["dm"] and (direct is None or direct.private is not False):
        lines.append(
            "workload.topology.direct_per_client needs server.namespaces.dm.private = false: client 0 reads "
            "every channel back, and a private one is closed to it"
        )
    return lines


def _filled(argument: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        argument = argument.replace(placeholder, value)
    return argument


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
