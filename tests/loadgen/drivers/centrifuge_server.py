"""A server on Centrifugo's own engine, as a process; tests that need it skip where it is not built."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BINARY = Path(__file__).parents[3] / ".tools/bin/chatd-peer-centrifuge"


@contextlib.contextmanager
def serve(secret: str) -> Iterator[str]:
    """Its address, ws://host:port, while it runs. It takes tokens signed with the secret."""
    if not BINARY.is_file():
        pytest.skip("a server on Centrifugo's engine: `make centrifuge` builds it (needs Go)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([BINARY, str(port), secret]) as process:
        try:
            _wait(port)
            yield f"ws://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
