"""chatd as a process, and what can be done to it."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.broker import free_port


class Daemon:
    """One ``python -m chatd`` after another, with the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self, *flags: str, file_bytes: int | None = None, under: Sequence[str] = ()) -> str:
        """Start and wait for the line that says where it listens.

        ``under``: a command that runs it. ``file_bytes``: as ``limit``.
        """
        command = [sys.executable, "-m", "chatd", "--port", str(self.port), "--data", str(self.directory)]
        command += ["--http-port", "0"]  # the port after a free one may be somebody else's
        # Without a buffer, so that reading the first line takes no more than that line.
        self.process = subprocess.Popen([*under, *command, *flags], stderr=subprocess.PIPE, bufsize=0)
        if file_bytes is not None:
            self.limit(file_bytes)
        assert self.process.stderr is not None
        line = self.process.stderr.readline().decode()
        found = re.search(r"listening url=(ws://127\.0\.0\.1:(\d+)/ws)", line)
        assert found, line
        self.port = int(found[2])
        return found[1]

    def limit(self, file_bytes: int) -> None:
        """How long its files may become, as if the disk were full then; -1: as long as they like."""
        assert self.process is not None
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    async def ended(self) -> int:
        """Wait for the end of a process that ends by itself; returns the exit status."""
        assert self.process is not None
        _, rest = await asyncio.to_thread(self.process.communicate, timeout=30)
        self.log = rest.decode()
        status, self.process = self.process.returncode, None
        return status

    async def page(self, path: str) -> tuple[int, str]:
        """GET a page of the daemon: status and body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body

    async def until_ready(self, status: int) -> None:
        """Wait until /readyz has this status."""
        async with asyncio.timeout(30):
            while (await self.page("/readyz"))[0] != status:
                pass

    def send(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        _, rest = self.process.communicate(timeout=30)
        self.log = rest.decode()
        status, self.process = self.process.returncode, None
        return status
