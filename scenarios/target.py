"""The server under test: chatd as a process of the run, ready before anyone dials it."""

from __future__ import annotations

import http.client
import socket
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from chaos.process import ProcessSpec, Supervisor, log_tail
from loadgen.trust import Tls

from .model import Server
from .rundir import RunDirectory

TARGET = "chatd-1"
NODE = "n1"
START_S = 15.0
ASK_AGAIN_S = 0.02


class StageFailed(Exception):
    """The harness could not do its part; the run is void. The message says which part and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the system under test is. ``pages``: host and port that answer /readyz and /metrics in plain
    HTTP; None where nobody is known to."""

    url: str
    pages: tuple[str, int] | None = None


def trusted(server: Server) -> Tls:
    """What clients of the target trust: a chatd of the run's own is known by its own certificate."""
    host = str(urlsplit(server.url).hostname) if server.url else server.host
    ca = server.tls.ca or (None if server.url else server.tls_cert)
    return Tls(ca=ca, server_name=server.tls.server_name or host)


def start_chatd(
    server: Server, supervisor: Supervisor, rundir: RunDirectory, *, hooks: bool = False
) -> Target:
    """Start chatd with the scenario's configuration and wait until it is ready.

    Args:
        hooks: some fault of the plan needs its test hooks.
    Raises:
        StageFailed: it ended at once, or was not ready in time; with the end of its log.
    """
    host = server.host
    port = server.port or free_port(host)
    ours = {"url", "command", "tls"}  # keys that say how to run it, and not its own
    config = server.model_dump(mode="json", exclude=ours, exclude_unset=bool(server.command))
    config |= {"port": port, "node": NODE, "data": str(rundir.path / "data" / TARGET)}
    pages = (host, port)
    if hooks or server.tls_cert:
        pages = ("127.0.0.1", server.admin_port or free_port("127.0.0.1"))
        config |= {"admin_port": pages[1]} | ({"test_hooks": True} if hooks else {})
    path = rundir.write_json(f"config/{TARGET}.json", config)
    log = rundir.path / f"logs/{TARGET}.log"
    argv = (*(server.command or (sys.executable, "-m", "chatd")), "--config", str(path))
    address = f"{pages[0]}:{pages[1]}" if hooks else ""
    process = supervisor.start(ProcessSpec(name=TARGET, argv=argv, log=log, role="target", hooks=address))
    deadline_s = time.monotonic() + START_S
    while not answers(*pages, "/readyz"):
        if not supervisor.running(TARGET):
            raise StageFailed(f"chatd ended at its start{log_tail(process)}")
        if time.monotonic() > deadline_s:
            raise StageFailed(f"chatd was not ready within {START_S:g} s{log_tail(process)}")
        time.sleep(ASK_AGAIN_S)
    scheme = "wss" if server.tls_cert else "ws"
    name = f"[{host}]" if ":" in host else host
    return Target(f"{scheme}://{name}:{port}", pages)


def free_port(host: str) -> int:
    """A port that is free now; chatd keeps it across restarts, so it cannot be left to port 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET on this machine is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
