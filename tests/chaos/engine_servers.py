"""Servers for the engines' suite: the embedded proxy, and a real Toxiproxy where there is one."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.conformance.engines import Engine

BUILT = Path(__file__).parents[2] / ".tools/bin/toxiproxy-server"
TOXIPROXY = str(BUILT) if BUILT.exists() else shutil.which("toxiproxy-server")  # the pinned one first
needs_toxiproxy = pytest.mark.skipif(
    TOXIPROXY is None,
    reason="toxiproxy-server is neither in .tools/bin nor on PATH: `make toxiproxy` builds it (needs Go)",
)


@contextmanager
def serving(*command: str) -> Iterator[Engine]:
    """A server process that listens on a port given to it, until the end of the block."""
    port = free_port()
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline, f"{command} does not listen"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            with suppress(subprocess.TimeoutExpired):  # unless it has ended
                raise AssertionError(f"{command} exited with {process.wait(0.02)}")
        yield Engine(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def toxiproxy() -> Iterator[Engine]:
    """A real Toxiproxy; there must be one."""
    assert TOXIPROXY
    with serving(TOXIPROXY, "--proxy-metrics") as engine:
        yield engine


@contextmanager
def embedded(*options: str) -> Iterator[Engine]:
    """The embedded proxy."""
    with serving(sys.executable, "-m", "chaos.proxy", *options) as engine:
        yield engine
