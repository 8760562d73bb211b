"""Centrifugo, and a server on its engine, as processes; tests that need one skip where it is not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.broker import free_port

ROOT = Path(__file__).parents[3]
ENGINE = ROOT / ".tools/bin/chatd-peer-centrifuge"
CONFIG = ROOT / "examples/centrifugo/config.json"
SECRET_ENV = "CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY"


@contextlib.contextmanager
def engine(secret: str) -> Iterator[str]:
    """The address of a server on the engine, ws://host:port, while it runs. It takes tokens signed so."""
    if not ENGINE.is_file():
        pytest.skip("a server on Centrifugo's engine: `make centrifuge` builds it (needs Go)")
    port = free_port()
    with _running([str(ENGINE), str(port), secret], port) as url:
        yield url


@contextlib.contextmanager
def product(secret: str) -> Iterator[str]:
    """The same of Centrifugo itself, configured as the examples are."""
    binary = shutil.which("centrifugo", path=f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}")
    if binary is None:
        pytest.skip("Centrifugo: `make centrifugo` installs it (needs Go, and some minutes)")
    port = free_port()
    command = [binary, "--config", str(CONFIG), "--http_server.port", str(port), "--log.level", "error"]
    with _running(command, port, {SECRET_ENV: secret}) as url:
        yield url


@contextlib.contextmanager
def _running(command: Sequence[str], port: int, env: dict[str, str] | None = None) -> Iterator[str]:
    with subprocess.Popen(command, env={**os.environ, **(env or {})}) as process:
        try:
            _wait(port)
            yield f"ws://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int) -> None:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise
