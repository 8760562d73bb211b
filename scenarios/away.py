"""Load from other hosts: where their workers dial, for how long they are waited for, and what cannot be."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from chaos.plan import Plan
from loadgen.workload import Workload, is_loopback

from .server import Server

PORT = 5557  # Locust's own
COUNTING = ("least", "two_choices")  # policies that need to know how many connections each node has
ANY_ADDRESS = ("0.0.0.0", "::", "*")


def number_of(worker: str) -> int:
    """
    >>> number_of("worker-3")
    3
    """
    return int(worker.removeprefix("worker-"))


@dataclass(frozen=True, slots=True)
class Away:
    """``workers`` workers come by themselves, from other hosts, to ``host``:``port`` of this one."""

    workers: int
    host: str = "127.0.0.1"
    port: int = PORT
    wait_s: float = 300.0

    def options(self) -> list[str]:
        """Of ``loadgen.master``."""
        return ["--away", "--bind-host", self.host, "--bind-port", str(self.port)]

    def command(self, port: int, targets: Sequence[str]) -> str:
        """What to type on the host of a worker."""
        here = socket.gethostname() if self.host in ANY_ADDRESS else self.host
        hosts = dict.fromkeys(str(urlsplit(target).hostname) for target in targets)
        allowed = [word for host in hosts if not is_loopback(host) for word in ("--allow-target", host)]
        words = ["chatproof", "load", "--worker", "--master-host", here, "--master-port", str(port)]
        return shlex.join([*words, *allowed])

    def misfits(
        self, server: Server, workload: Workload, plan: Plan, allow_targets: Sequence[str]
    ) -> list[str]:
        """What of a scenario cannot be done with workers on other hosts, a line each."""
        lines = [
            f"fault {fault!r}: target is {name!r}: must be a worker that the run starts, and those of "
            "--expect-workers are on hosts where it can stop no process; leave the fault out, or say "
            f"--workers {number_of(name)} or more in place of --expect-workers"
            for fault, name in plan.workers().items()
        ]
        if server.nodes > 1 and workload.balance in COUNTING and not server.balancer:
            lines.append(
                f"workload.balance is {workload.balance!r}: it asks the nodes on their loopback, and "
                "workers on other hosts cannot; take fixed, round_robin or hash"
            )
        if is_loopback(self.host):
            return lines
        if server.balancer:
            return [
                *lines,
                f"server.balancer is {server.balancer!r}: it listens on loopback, and workers on other hosts "
                "cannot dial it; leave it out",
            ]
        if plan.on_wires():
            return lines + self._proxy_misfits(allow_targets)
        dialled = str(urlsplit(server.url).hostname) if server.url else server.host
        if is_loopback(dialled):
            key, value = ("server.url", server.url) if server.url else ("server.host", server.host)
            lines.append(
                f"{key} is {value!r}: workers on other hosts cannot dial it; give an address that they can "
                "(beyond loopback chatd wants tokens: server.auth_secret_file and [workload.auth])"
            )
        over_http = str(urlsplit(server.http_url).hostname) if server.url and server.http_url else ""
        if workload.over_http and over_http and is_loopback(over_http):
            lines.append(
                f"server.http_url is {server.http_url!r}: workers on other hosts cannot dial it, and some "
                "personas come over HTTP; give an address that they can"
            )
        return lines

    def _proxy_misfits(self, allow_targets: Sequence[str]) -> list[str]:
        """The proxy of wire faults listens where the master does, and is what workers dial."""
        if self.host in ANY_ADDRESS:
            return [
                f"--bind-host is {self.host!r}: the fault proxy listens there too: name the address to dial"
            ]
        if self.host not in allow_targets:
            return [
                f"--bind-host is {self.host!r}: the fault proxy listens there too, and load goes to loopback "
                f"only, unless you own the host and say --allow-target {self.host}"
            ]
        return []
