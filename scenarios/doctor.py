"""What `chatproof doctor` looks at: limits that make a load lie, and optional tools."""

from __future__ import annotations

import os
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .balancer import REMEDY, program

MIN_OPEN_FILES = 4096
MIN_FREE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One thing that was looked at. ``optional``: runs work without it."""

    what: str
    found: str
    ok: bool
    remedy: str = ""
    optional: bool = False


def examine(root: Path = Path(".")) -> list[Result]:
    """Look at this machine; changes nothing."""
    return [open_files(), ports(), cores(), disk(root), clock(), toxiproxy(root), haproxy()]


def open_files() -> Result:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    ok = hard == resource.RLIM_INFINITY or hard >= MIN_OPEN_FILES
    return Result(
        what="open files (hard limit)",
        found=shown,
        ok=ok,
        remedy=f"raise it: ulimit -Hn {MIN_OPEN_FILES * 16}",
    )


def ports() -> Result:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    free = high - low + 1
    return Result(
        what="ephemeral ports",
        found=f"{free:,}",
        ok=free >= 10_000,
        remedy="sysctl net.ipv4.ip_local_port_range='10240 65535'",
    )


def cores() -> Result:
    count = len(os.sched_getaffinity(0))
    return Result(
        what="cores",
        found=str(count),
        ok=count >= 2,
        remedy="with one core, load and server share it",
        optional=True,
    )


def disk(root: Path) -> Result:
    free = shutil.disk_usage(root).free
    return Result(
        what="free disk",
        found=f"{free / 1e9:,.1f} GB",
        ok=free >= MIN_FREE_BYTES,
        remedy="records need 40 bytes a delivery until sealed; free some space or use --out",
    )


def clock() -> Result:
    resolution_ns = time.clock_getres(time.CLOCK_MONOTONIC) * 1e9
    return Result(
        what="monotonic clock",
        found=f"{resolution_ns:,.0f} ns",
        ok=resolution_ns <= 1000,
        remedy="check the clocksource",
    )


def toxiproxy(root: Path) -> Result:
    path = shutil.which("toxiproxy-server") or shutil.which(str(root / ".tools/bin/toxiproxy-server"))
    return Result(
        what="toxiproxy-server",
        found=path or "not found",
        ok=path is not None,
        remedy="optional, the embedded engine needs nothing; `make toxiproxy` builds the real one",
        optional=True,
    )


def haproxy() -> Result:
    path = program()
    return Result(
        what="haproxy",
        found=path or "not found",
        ok=path is not None,
        remedy=f'optional, for [server] balancer = "haproxy": {REMEDY}',
        optional=True,
    )
