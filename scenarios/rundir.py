"""The run directory while it is being made: manifest, names, samples, and the `latest` link.

The manifest is rewritten whole and renamed into place, so that a reader, or the next
minute after a power cut, never sees half of one.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from reports.history import SCHEMA_VERSION

REPORTED_PACKAGES = (
    "chatproof", "uvloop", "picows", "websockets", "msgspec", "locust", "polars", "numpy", "hdrhistogram",
    "toxiproxy-python",
)  # fmt: skip


class RunDirectory:
    """``runs/<utc>-<scenario>-<id>/`` and its ``run.json``, which is there from the start.

    A run may end before anything of it has begun, and is judged all the same: what reading a run directory
    depends on, the nonce among it, is in the first manifest.
    """

    def __init__(self, out: Path, scenario: str, *, now: datetime | None = None) -> None:
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        self.run_id = f"{stamp}-{scenario}-{secrets.token_hex(3)}"
        self.path = (out / self.run_id).resolve()
        for folder in ("config", "events", "metrics", "logs", "analysis", "report"):
            (self.path / folder).mkdir(parents=True)
        self.manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "scenario": scenario,
            "status": "running",
            "phase_reached": "set-up",
            "nonce": secrets.randbits(63),  # in each message, so that those of other runs are known
            "command": " ".join(["chatproof", *sys.argv[1:]]),
            "started_utc": (now or datetime.now(UTC)).isoformat(timespec="milliseconds"),
            "clock": clock(),
            "host": host(),
            "versions": versions(),
            "interactive": False,
            "workers": [],
            "control": 0,
            "problems": [],
            "void": [],
        }
        self.update()
        self._point_latest(out)

    def _point_latest(self, out: Path) -> None:
        fresh = out / f".latest-{self.run_id}"
        fresh.symlink_to(self.run_id)
        fresh.replace(out / "latest")

    def update(self, **fields: Any) -> None:
        """Set manifest fields and write it."""
        self.manifest.update(fields)
        self.write_json("run.json", self.manifest)

    def problem(self, text: str, *, void: bool) -> None:
        """Note something that went wrong with the run itself; ``void``: nothing can be concluded from it."""
        self.manifest["problems"].append(text)
        if void:
            self.manifest["void"].append(text)
        self.update()

    def finish(self, status: str) -> None:
        """Set the final status (complete or aborted) and the run's length."""
        started_ns: int = self.manifest["clock"]["monotonic_ns"]
        self.update(
            status=status,
            ended_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            duration_s=round((time.monotonic_ns() - started_ns) / 1e9, 3),
        )

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file of the run, whole or not at all."""
        return self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run, whole or not at all."""
        target = self.path / name
        partial = target.with_name(target.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
        return target


def clock() -> dict[str, Any]:
    """Ties CLOCK_MONOTONIC to the wall clock and to this boot."""
    return {
        "monotonic_ns": time.monotonic_ns(),
        "unix_ns": time.time_ns(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }


def host() -> dict[str, Any]:
    """What a reader needs to judge absolute figures by."""
    return {
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load1": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Versions of everything whose speed or correctness a figure depends on."""
    found = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
