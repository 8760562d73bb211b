"""Processes of a run that have to be ready before anybody uses them, and where they listen."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from chaos.process import Process, Supervisor, log_tail

START_S: Final = 15.0  # for a process to be ready
ASK_S: Final = 1.0  # for one answer
ASK_AGAIN_S: Final = 0.02
FIRST_PORT: Final = 12_000
PORTS_TRIED: Final = 100
EPHEMERAL: Final = "/proc/sys/net/ipv4/ip_local_port_range"
IANA_EPHEMERAL: Final = 49_152  # RFC 6335 § 6
Address = tuple[str, int]  # host and port


class StageFailed(Exception):
    """The harness could not do its part; the run is void. The message says which part and why."""


def await_ready(supervisor: Supervisor, process: Process, is_ready: Callable[[], bool], *, what: str) -> None:
    """Wait until a process that was just started says that it is ready.

    Raises:
        StageFailed: it ended at once, or was not ready in time; with the end of its log.
    """
    process.ready = False
    deadline_s = time.monotonic() + START_S
    while not is_ready():
        if not supervisor.running(process.spec.name):
            raise StageFailed(f"{what} ended at its start{log_tail(process)}")
        if time.monotonic() > deadline_s:
            raise StageFailed(f"{what} was not ready within {START_S:g} s{log_tail(process)}")
        time.sleep(ASK_AGAIN_S)
    process.ready = True


def free_port(host: str) -> int:
    """A port that is free now; a process keeps it across restarts, so it cannot be left to port 0.

    It lies below the range from which the kernel takes ports for whoever asks for none: the proxies of the
    same run do, and every connection, in the time until the process listens.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.SystemRandom().sample(range(FIRST_PORT, _first_ephemeral()), PORTS_TRIED):
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise StageFailed(f"no port is free on {host}: {PORTS_TRIED} were tried")


def _first_ephemeral() -> int:
    """First port of that range; Linux says it, elsewhere the one that IANA recommends is assumed."""
    try:
        return max(FIRST_PORT + PORTS_TRIED, int(Path(EPHEMERAL).read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return IANA_EPHEMERAL


def in_url(address: Address) -> str:
    """HOST:PORT as a URL has it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET on this machine is answered with 200."""
    return ask(host, port, path) is not None


def listens(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=ASK_S).close()
    except OSError:
        return False
    return True


def ask(host: str, port: int, path: str, *, timeout_s: float = ASK_S) -> bytes | None:
    """The body of the answer to a GET, at most a mebibyte; None when it is not answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read(1 << 20) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ask_json(host: str, port: int, path: str, *, timeout_s: float = ASK_S) -> Any:
    """The JSON of such an answer; None when there is none."""
    body = ask(host, port, path, timeout_s=timeout_s)
    try:
        return None if body is None else json.loads(body)
    except ValueError:
        return None
